"""What is built: contexts that are the same on every run."""

from __future__ import annotations

import random
from pathlib import Path

_MB = 1 << 20
_WORDS = ("layer", "digest", "file", "system", "tree", "names", "modes", "bytes", "owner", "link")


def small_files(place: Path, count: int, size: int, dockerfile: str) -> Path:
    """A context of *count* text files of about *size* bytes, a hundred to a directory."""
    source = random.Random(count)
    for number in range(count):
        directory = place / f"src/d{number // 100}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number}.txt").write_text(_text(source, size))
    return _with_dockerfile(place, dockerfile)


def one_gigabyte(place: Path, dockerfile: str) -> Path:
    """A context of 64 files of 16 MB; half of each is random, half compresses well."""
    source = random.Random(1)
    text = "".join(_text(source, 4096) for _ in range(2 * _MB // 4096)).encode()
    place.mkdir(parents=True)
    for number in range(64):
        with (place / f"f{number}.bin").open("wb") as out:
            for _ in range(4):
                out.write(source.randbytes(2 * _MB))
                out.write(text)
    return _with_dockerfile(place, dockerfile)


def _text(source: random.Random, size: int) -> str:
    words: list[str] = []
    length = 0
    while length < size:
        word = source.choice(_WORDS) + str(source.randrange(1000))
        words.append(word)
        length += len(word) + 1
    return " ".join(words)[:size]


def _with_dockerfile(place: Path, text: str) -> Path:
    (place / "Dockerfile").write_text(text)
    (place / ".dockerignore").write_text("Dockerfile\n.dockerignore\n.git\n")
    return place
