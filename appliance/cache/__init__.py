"""The cache: bytes under keys with a time to live, behind a circuit breaker; nothing lives only there."""
