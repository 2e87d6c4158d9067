"""Backup and restore: one file with a box's databases, its configuration and, when asked for, its media."""
