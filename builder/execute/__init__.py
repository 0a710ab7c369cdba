"""One function per op: what happens when the cache does not have it."""
