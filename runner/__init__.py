"""A Sandbox value becomes a running process. Knows mounts, not images."""
