"""What the box's files need and take: forecasts, admission of jobs, the guard at the floor, retention."""
