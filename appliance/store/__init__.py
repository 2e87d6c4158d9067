"""The read model: every fact of the stream projected into SQLite, exactly once, with the stream position beside it."""
