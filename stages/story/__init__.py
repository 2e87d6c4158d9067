"""Which moments are worth a clip: units of speech and sound, what speaks for them, and the exact choice among them."""
