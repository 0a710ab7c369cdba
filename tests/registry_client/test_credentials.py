from __future__ import annotations

import base64
import json
import traceback
from pathlib import Path

import pytest

from ocispec.errors import Denied, Invalid, PybuildError
from registry_client.credentials import Anonymous, DockerConfig, Login, OneLogin

HUB = "https://index.docker.io/v1/"


def config(path: Path, document: object, *, timeout: float = 20.0) -> DockerConfig:
    (path / "config.json").write_text(json.dumps(document))
    search = f":.:relative:{path / 'bin'}"
    return DockerConfig(path / "config.json", search=search, timeout=timeout)


def entry(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def helper(path: Path, name: str, script: str) -> None:
    """A helper that is the shell *script*; $asked is the server it is asked for."""
    program = path / "bin" / f"docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\nread asked\n{script}\n")
    program.chmod(0o755)


def answer(user: str = "$asked", secret: str = "secret") -> str:
    return f"""echo '{{"ServerURL":"x","Username":"'"{user}"'","Secret":"{secret}"}}'"""


@pytest.mark.parametrize(
    ("key", "registry", "found"),
    [
        ("example.com", "example.com", True),
        ("https://example.com", "example.com", True),
        ("https://example.com/", "example.com", True),
        ("http://example.com/v1/", "example.com", True),
        ("https://example.com/v2/", "example.com", True),
        ("example.com:5000", "example.com:5000", True),
        ("example.com", "example.com:5000", False),
        ("example.com", "sub.example.com", False),
        (HUB, "docker.io", True),
        ("docker.io", "docker.io", True),
        ("registry-1.docker.io", "docker.io", True),
        ("index.docker.io", "example.com", False),
    ],
)
def test_logins_are_found_under_their_host(
    tmp_path: Path, key: str, registry: str, found: bool
) -> None:
    logins = config(tmp_path, {"auths": {key: entry("me")}})

    assert logins.login(registry, "a/b") == (Login("me", "secret") if found else None)


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("team/app/web", "web"),
        ("team/app", "app"),
        ("team/app/db", "app"),
        ("team/other", "team"),
        ("other/app", "host"),
        ("teams/app", "host"),
    ],
)
def test_the_longest_path_wins(tmp_path: Path, repository: str, user: str) -> None:
    keys = {
        "example.com": "host",
        "example.com/team": "team",
        "example.com/team/app": "app",
        "example.com/team/app/web": "web",
    }
    auths = {key: entry(name) for key, name in keys.items()}

    assert config(tmp_path, {"auths": auths}).login("example.com", repository) == Login(
        user, "secret"
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (entry("me", "with:colon"), Login("me", "with:colon")),
        ({"username": "me", "password": "p"}, Login("me", "p")),
        (entry("me", "padded\0\0"), Login("me", "padded")),
        (entry("mé", "pässword"), Login("mé", "pässword")),
        ({"identitytoken": "t"}, Login(identity_token="t")),
        ({"registrytoken": "t"}, Login(registry_token="t")),
        ({}, None),
        ({"auth": ""}, None),
        ("nonsense", None),
    ],
)
def test_entries_are_read(tmp_path: Path, fields: object, expected: Login | None) -> None:
    logins = config(tmp_path, {"auths": {"example.com": fields}})

    assert logins.login("example.com", "a") == expected


@pytest.mark.parametrize("text", ["{", "[]", '{"auths":{},"auths":{}}', "\xff"], ids=ascii)
def test_a_damaged_file_is_invalid_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text + "secret", encoding="latin-1")
    with pytest.raises(Invalid) as caught:
        DockerConfig(path, search="").login("example.com", "a")

    assert str(path) in caught.value.message
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("auth", ["!", "bm9jb2xvbg=", "/////w=="], ids=ascii)
def test_a_damaged_entry_is_invalid(tmp_path: Path, auth: str) -> None:
    logins = config(tmp_path, {"auths": {"example.com": {"auth": auth}}})
    with pytest.raises(Invalid, match="damaged"):
        logins.login("example.com", "a")


def test_a_file_that_is_too_big_is_not_read(tmp_path: Path) -> None:
    logins = config(tmp_path, {"auths": {}, "x": "x" * (2 << 20)})
    with pytest.raises(Invalid, match="more than"):
        logins.login("example.com", "a")


@pytest.mark.parametrize("name", ["absent", "empty", "below/a/file"])
def test_no_file_is_no_login(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "below").touch()

    assert DockerConfig(tmp_path / name, search="").login("example.com", "a") is None


def test_a_login_that_is_written_meanwhile_counts(tmp_path: Path) -> None:
    logins = config(tmp_path, {})
    assert logins.login("example.com", "a") is None
    config(tmp_path, {"auths": {"example.com": entry("me")}})

    assert logins.login("example.com", "a") == Login("me", "secret")


@pytest.mark.parametrize(
    ("registry", "asked"), [("example.com", "example.com"), ("docker.io", HUB)]
)
def test_a_store_is_asked_without_any_auths(tmp_path: Path, registry: str, asked: str) -> None:
    helper(tmp_path, "store", answer())

    assert config(tmp_path, {"credsStore": "store"}).login(registry, "a") == Login(asked, "secret")


def test_a_helper_of_the_host_comes_before_the_store(tmp_path: Path) -> None:
    helper(tmp_path, "store", answer("store"))
    helper(tmp_path, "own", answer("own"))
    document = {"credsStore": "store", "credHelpers": {"https://example.com/": "own"}}
    logins = config(tmp_path, document)

    assert logins.login("example.com", "a") == Login("own", "secret")
    assert logins.login("other.com", "a") == Login("store", "secret")


def test_a_helper_may_be_for_a_repository(tmp_path: Path) -> None:
    helper(tmp_path, "own", answer())
    logins = config(tmp_path, {"credHelpers": {"example.com/team": "own"}})

    assert logins.login("example.com", "team/app") == Login("example.com/team", "secret")
    assert logins.login("example.com", "other") is None


def test_a_store_that_knows_nothing_leaves_it_to_the_file(tmp_path: Path) -> None:
    helper(tmp_path, "store", "echo credentials not found in native keychain; exit 1")
    document = {"credsStore": "store", "auths": {"example.com": entry("me")}}

    assert config(tmp_path, document).login("example.com", "a") == Login("me", "secret")


def test_a_helper_can_answer_with_a_token(tmp_path: Path) -> None:
    helper(tmp_path, "own", answer("<token>", "refresh"))
    logins = config(tmp_path, {"credHelpers": {"example.com": "own"}})

    assert logins.login("example.com", "a") == Login(identity_token="refresh")


@pytest.mark.parametrize(
    "name", ["../evil", "/bin/sh", "a/b", "", "x y", "x;y", "x\n", "$(x)"], ids=ascii
)
def test_r20_a_helper_with_a_path_in_its_name_is_never_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="not the name"):
        config(tmp_path, {"credHelpers": {"example.com": name}}).login("example.com", "a")


def test_r20_a_helper_in_the_current_directory_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "bin"
    helper(tmp_path, "own", answer())
    monkeypatch.chdir(here)
    (tmp_path / "relative").mkdir()
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"credsStore": "own"}))
    with pytest.raises(Denied, match="not installed"):
        DockerConfig(path, search=":.:../bin").login("example.com", "a")


def test_r20_a_helper_that_hangs_is_ended(tmp_path: Path) -> None:
    helper(tmp_path, "own", "sleep 1000")
    logins = config(tmp_path, {"credsStore": "own"}, timeout=0.2)
    with pytest.raises(Denied, match="did not answer within"):
        logins.login("example.com", "a")


def test_r20_a_helper_that_never_stops_is_ended(tmp_path: Path) -> None:
    helper(tmp_path, "own", "exec cat /dev/zero")
    with pytest.raises(Denied, match="more than"):
        config(tmp_path, {"credsStore": "own"}).login("example.com", "a")


def test_a_helper_that_does_not_listen_is_heard(tmp_path: Path) -> None:
    helper(tmp_path, "own", "")
    program = tmp_path / "bin/docker-credential-own"
    program.write_text("#!/bin/sh\nexec 0<&-\n" + answer("me"))

    assert config(tmp_path, {"credsStore": "own"}).login("example.com", "a") == Login(
        "me", "secret"
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'error \033[31mred'; exit 3", "failed: error"),
        ("exit 3", "failed: status 3"),
        ("echo not json, a secret", "not understood"),
        ('echo \'{"Username":"secret"}\'', "not understood"),
        ("echo '[]'", "not understood"),
    ],
)
def test_a_helper_that_fails_says_why_and_shows_nothing(
    tmp_path: Path, script: str, message: str
) -> None:
    helper(tmp_path, "own", script)
    with pytest.raises(Denied, match=message) as caught:
        config(tmp_path, {"credsStore": "own"}).login("example.com", "a")
    shown = "".join(traceback.format_exception(caught.value))

    assert "a secret" not in shown
    assert caught.value.message.isprintable()


def test_a_helper_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PybuildError) as caught:
        config(tmp_path, {"credsStore": "desktop"}).login("example.com", "a")

    assert "docker-credential-desktop" in caught.value.message
    assert str(tmp_path) in caught.value.hint


def test_nobody_has_no_login() -> None:
    assert Anonymous().login("example.com", "a") is None


def test_one_login_is_for_one_registry() -> None:
    login = Login("me", "secret")

    assert OneLogin("example.com", login).login("example.com", "a") == login
    assert OneLogin("example.com", login).login("other.com", "a") is None
