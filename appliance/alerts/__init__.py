"""Alerts: rules as data, a pure state machine over readings, and notifications."""
