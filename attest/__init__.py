"""Signatures and provenance."""
