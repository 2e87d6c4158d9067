"""The live feed: what the bus says, told to every open dashboard at once."""
