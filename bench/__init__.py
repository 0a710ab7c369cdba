"""pybuild beside buildah: the same work, in turns."""
