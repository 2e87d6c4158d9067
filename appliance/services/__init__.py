"""What the box knows about itself, one service a noun: typed figures read from the database, the bus and telemetry."""
