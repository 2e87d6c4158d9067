"""A stage worker: takes commands of one stage from the bus and runs each in a child process of its own."""
