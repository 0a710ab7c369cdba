from __future__ import annotations

import pytest

from ocispec import mediatypes


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (mediatypes.OCI_LAYER, "none"),
        (mediatypes.OCI_LAYER_GZIP, "gzip"),
        (mediatypes.OCI_LAYER_ZSTD, "zstd"),
        (mediatypes.DOCKER_LAYER, "none"),
        (mediatypes.DOCKER_LAYER_GZIP, "gzip"),
        (mediatypes.DOCKER_FOREIGN_LAYER_GZIP, "gzip"),
    ],
)
def test_the_type_of_a_layer_says_how_it_is_compressed(media_type: str, compression: str) -> None:
    assert mediatypes.compression(media_type) == compression


@pytest.mark.parametrize(
    ("media_type", "kept"),
    [
        (mediatypes.OCI_LAYER_GZIP, False),
        (mediatypes.DOCKER_LAYER_GZIP, False),
        (mediatypes.DOCKER_FOREIGN_LAYER_GZIP, True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", True),
    ],
)
def test_layers_that_are_not_to_be_distributed_are_known(media_type: str, kept: bool) -> None:
    assert mediatypes.is_nondistributable(media_type) == kept


def test_every_manifest_that_is_understood_is_accepted() -> None:
    assert set(mediatypes.ACCEPT) == mediatypes.INDEXES | mediatypes.MANIFESTS
