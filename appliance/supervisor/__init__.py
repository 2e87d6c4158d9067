"""The supervisor: starts the box's processes in order, keeps exactly one of each alive, ends them together."""
