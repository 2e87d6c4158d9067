"""What people and the box itself stop on purpose: the control ledger, kept as facts on the bus."""
