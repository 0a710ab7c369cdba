"""Joins store, registry, builder and runner: build, pull, push, run, prune."""
