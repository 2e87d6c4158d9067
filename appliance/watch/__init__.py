"""The watch folder: a video that settles in it becomes a job, once."""
