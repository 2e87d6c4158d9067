"""The event bus: typed events and commands on NATS JetStream. The only package that imports `nats`."""
