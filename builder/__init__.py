"""Dockerfile, plan, solved plan, image."""
