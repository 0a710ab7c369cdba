"""What tests of hostile registries share: a layer, a login, and hosts to be sent to."""

from __future__ import annotations

import base64
from typing import Final

from support.httpserver import Handler, Received, Reply
from support.registry import PASSWORD, USER

from ocispec import mediatypes
from ocispec.model import Descriptor
from registry_client.hosts import Origin

PUBLIC: Final = Origin.of("https://registry.example.com")
OTHER: Final = "127.0.0.2"  # another host than 127.0.0.1, on every Linux
BASIC: Final = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
LAYER: Final = Descriptor.of(mediatypes.OCI_LAYER_GZIP, b"layer")


def ask_for_login(small: Handler) -> Handler:
    """*small* behind a password."""

    def handler(request: Received) -> Reply:
        if request.headers.get("authorization") == BASIC:
            return small(request)
        return Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    return handler


def never(request: Received) -> Reply:
    return Reply(500, b"nobody should have asked")
