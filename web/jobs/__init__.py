"""Jobs and their clips over HTTP."""
