"""Blobs and filesystems: the store, tar layers, overlay snapshots, context digests."""
