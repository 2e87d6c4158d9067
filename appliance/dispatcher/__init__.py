"""The event dispatcher: projects every fact into SQLite and starts what follows from it."""
