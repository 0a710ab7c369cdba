"""Other registries' habits, and other clients that read what we push and push what we read."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from support.hostile import OTHER
from support.httpserver import Received, Reply, http_server
from support.images import Memory, random_image
from support.oracles import run, skopeo_copy, skopeo_inspect
from support.registry import PASSWORD, USER, RunningRegistry, open_registry

from ocispec import mediatypes
from ocispec.copy import copy
from ocispec.model import Manifest
from ocispec.reference import Reference
from registry_client.client import Client
from registry_client.credentials import DockerConfig


def push(client: Client, name: Reference, seed: int) -> Memory:
    image = random_image(seed, size=20_000)
    there = client.repository(name)
    copy(image.root, image.content, there)
    there.tag(name, image.root)
    return image.content


def pull(client: Client, name: Reference) -> Memory:
    there, back = client.repository(name), Memory()
    root = there.resolve(name)
    copy(root, there, back)
    back.tag(name, root)
    return back


def test_a_registry_that_sends_us_to_its_storage_is_followed(
    client: Client, tmp_path: Path
) -> None:
    def storage(request: Received) -> Reply:
        return Reply(200, (tmp_path / "data" / request.path.lstrip("/")).read_bytes())

    with http_server(storage, host=OTHER) as elsewhere:
        redirect = {"name": "redirect", "options": {"baseurl": elsewhere.url + "/"}}
        with open_registry(tmp_path, middleware={"storage": [redirect]}) as registry:
            name = Reference(registry.name, "some/app", "v1")
            pushed = push(client, name, 1)

            assert pull(client, name).blobs == pushed.blobs
    assert len(elsewhere.received) >= 3


def test_a_mirror_serves_what_it_mirrors(
    client: Client, plain: RunningRegistry, repository_name: str, tmp_path: Path
) -> None:
    pushed = push(client, Reference(plain.name, repository_name, "v1"), 2)
    with open_registry(tmp_path, proxy={"remoteurl": f"http://{plain.name}"}) as mirror:
        assert pull(client, Reference(mirror.name, repository_name, "v1")).blobs == pushed.blobs


def test_the_login_that_docker_wrote_is_used(locked: RunningRegistry, tmp_path: Path) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {locked.name: {"auth": auth}}}))
    with Client(DockerConfig(path, search="")) as client:
        push(client, Reference(locked.name, "written/login", "v1"), 3)
    with Client.configured(path) as client:
        name = Reference(locked.name, "written/login", "v1")

        assert client.repository(name).tags() == ["v1"]


def test_one_client_speaks_to_several_registries(
    client: Client, plain: RunningRegistry, tokened: RunningRegistry, repository_name: str
) -> None:
    name = Reference(plain.name, repository_name, "v1")
    pushed = push(client, name, 4)
    elsewhere = client.repository(Reference(tokened.name, repository_name))

    assert not elsewhere.has(random_image(4).root)
    assert pull(client, name).blobs == pushed.blobs


@pytest.mark.oracle
def test_skopeo_reads_what_we_push(
    client: Client, plain: RunningRegistry, repository_name: str, tmp_path: Path
) -> None:
    name = Reference(plain.name, repository_name, "v1")
    pushed = push(client, name, 5)
    manifest = skopeo_inspect(f"docker://{name}")
    skopeo_copy(f"docker://{name}", f"oci:{tmp_path / 'layout'}:v1")
    copied = {path.read_bytes() for path in (tmp_path / "layout/blobs/sha256").iterdir()}

    assert manifest["mediaType"] == mediatypes.OCI_MANIFEST
    assert copied == set(pushed.blobs.values())


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_we_read_what_skopeo_pushes(
    client: Client, plain: RunningRegistry, repository_name: str, form: str
) -> None:
    name = Reference(plain.name, repository_name, "v1")
    pushed = push(client, name, 6)
    again = Reference(plain.name, repository_name + "-again", "v1")
    run(
        "skopeo",
        "copy",
        "-q",
        "--insecure-policy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        f"--format={form}",
        f"docker://{name}",
        f"docker://{again}",
    )
    pulled = pull(client, again)
    root = pulled.resolve(again)
    kinds = {"oci": mediatypes.OCI_MANIFEST, "v2s2": mediatypes.DOCKER_MANIFEST}

    assert root.media_type == kinds[form]
    manifest = Manifest.decode(pulled.blobs[root.digest], root.media_type)
    assert all(layer.digest in pushed.blobs for layer in manifest.layers)


@pytest.mark.oracle
def test_skopeo_lists_the_tags_that_we_list(
    client: Client, plain: RunningRegistry, repository_name: str
) -> None:
    name = Reference(plain.name, repository_name, "v1")
    push(client, name, 7)
    listed = json.loads(run("skopeo", "list-tags", "--tls-verify=false", f"docker://{name.name}"))

    assert listed["Tags"] == client.repository(name).tags()
