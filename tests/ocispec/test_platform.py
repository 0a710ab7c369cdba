from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.errors import Invalid
from ocispec.platform import Platform, host, normalise


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/arm64", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/5", "linux/arm/v5"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("linux/riscv64", "linux/riscv64"),
        ("windows/amd64", "windows/amd64"),
        ("arm64", "linux/arm64"),
        ("x86_64", "linux/amd64"),
        ("armhf", "linux/arm/v7"),
    ],
)
def test_platforms_are_read_as_docker_reads_them(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown


def test_a_system_alone_is_of_this_machines_architecture() -> None:
    assert Platform.parse("windows") == Platform(
        "windows", host().architecture, Platform.parse("windows").variant
    )


@pytest.mark.parametrize(
    "text", ["", "/", "linux/", "/amd64", "a/b/c/d", "linux amd64", "linux/amd64/", "x:y", "é"]
)
def test_other_text_is_no_platform(text: str) -> None:
    with pytest.raises(Invalid, match="not a platform"):
        Platform.parse(text)


@given(st.text("abclinuxmrd64v78/_-.", max_size=20))
def test_what_is_shown_is_read_back(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except Invalid:
        return

    assert Platform.parse(str(platform)) == platform


@given(st.sampled_from(["amd64", "arm64", "arm", "386"]), st.sampled_from(["", "v1", "v6", "v8"]))
def test_normalising_twice_changes_nothing(architecture: str, variant: str) -> None:
    once = normalise("linux", architecture, variant)

    assert normalise(once.os, once.architecture, once.variant) == once


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm/v7", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/amd64/v3", "linux/amd64", True),
    ],
)
def test_an_image_fits_its_platform(ours: str, theirs: str, fits: bool) -> None:
    assert Platform.parse(ours).matches(Platform.parse(theirs)) == fits


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm/v6"])
def test_the_json_form_has_the_specs_keys(text: str) -> None:
    platform = Platform.parse(text)
    fields = platform.json()

    assert set(fields) <= {"os", "architecture", "variant"}
    assert normalise(fields["os"], fields["architecture"], fields.get("variant", "")) == platform


def test_this_machine_runs_linux() -> None:
    assert host().os == "linux"
