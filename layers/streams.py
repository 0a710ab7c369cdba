"""A tar from anywhere (a file, standard input), whatever it is compressed with."""

from __future__ import annotations

from typing import Any, Final

from layers.compress import decompressor, sniff
from ocispec import mediatypes
from ocispec.content import Readable
from ocispec.errors import Corrupt, Invalid

_HEAD: Final = 512  # bytes; enough for every magic number, a tar header among them
_MEDIA_TYPES: Final = {
    "tar": mediatypes.OCI_LAYER,
    "gzip": mediatypes.OCI_LAYER_GZIP,
    "zstd": mediatypes.OCI_LAYER_ZSTD,
}


def plain_tar(raw: Readable) -> Readable:
    """The uncompressed tar in *raw*, which need not be seekable. Invalid if it is none."""
    head = b""
    while len(head) < _HEAD and (more := raw.read(_HEAD - len(head))):
        head += more
    stream = _Replayed(head, raw)
    form = sniff(head)
    if form in _MEDIA_TYPES:
        return decompressor(_MEDIA_TYPES[form], stream)
    if form in ("bzip2", "xz"):
        return _Standard(form, stream)
    raise Invalid("not a tar archive", hint="a tar is expected, plain or compressed")


class _Standard:
    """What the standard library unpacks; its errors become ours."""

    def __init__(self, form: str, raw: Readable) -> None:
        import bz2
        import lzma

        file: Any = raw  # both call read() only, though their stubs want a whole file
        self._form = form
        kinds: dict[str, type[bz2.BZ2File | lzma.LZMAFile]]
        kinds = {"bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}
        self._file = kinds[form](file)
        # BZ2File raises a bare OSError for bad data; one of the system has an errno.
        self._errors = (EOFError, lzma.LZMAError, OSError)

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._file.read(size)
        except self._errors as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise Corrupt(f"the {self._form} data is damaged or cut short: {error}") from error

    def close(self) -> None:
        self._file.close()


class _Replayed:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._rest.read(size)
        taken = self._head if size < 0 else self._head[:size]
        self._head = self._head[len(taken) :]
        return taken if size >= 0 else taken + self._rest.read()

    def close(self) -> None:
        self._rest.close()
