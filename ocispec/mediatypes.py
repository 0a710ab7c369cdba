"""Media types of OCI and Docker, and how they correspond (image-spec media-types.md)."""

from __future__ import annotations

from typing import Final

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"

DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

INDEXES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

# What a client accepts for a manifest, in order of preference. Without it docker-registry 2.8
# converts to schema 1, with another digest.
ACCEPT: Final = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)


def compression(media_type: str) -> str:
    """``gzip``, ``zstd`` or ``none``: how a layer of *media_type* is stored."""
    if media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    if media_type.endswith("+zstd"):
        return "zstd"
    return "none"


def is_nondistributable(media_type: str) -> bool:
    """True for layers that must not be pushed (image-spec layer.md, "Non-Distributable Layers")."""
    return "nondistributable" in media_type or media_type == DOCKER_FOREIGN_LAYER_GZIP
