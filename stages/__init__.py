"""The six stages, each a plain function from a task and a job's folder to a result. No bus, no globals."""
