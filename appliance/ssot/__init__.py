"""The single source of truth: everything the box knows about itself as one JSON document, from the cache or fresh."""
