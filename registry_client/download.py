"""A blob on its way here: verified while it is read, resumed where the connection broke."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

from ocispec.errors import Corrupt
from ocispec.model import Descriptor
from registry_client.errors import BUSY
from registry_client.transport import BLOCK, Broken, Response

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:[0-9]{1,18}|\*)")
_PROGRESS: Final = 1 << 20  # bytes after which a connection that breaks counts as a first failure


class Download:
    """
    The bytes of *blob* as a Readable.

    *request* gives the answer to a GET with the headers given, whatever its status; *refusal* the
    error that an answer is; *wait* waits before another attempt, and *attempts* is how many there
    are without progress. *on_read* gets the bytes read so far.
    """

    def __init__(
        self,
        blob: Descriptor,
        *,
        request: Callable[[dict[str, str]], Response],
        refusal: Callable[[Response], Exception],
        wait: Callable[[int], None],
        attempts: int,
        on_read: Callable[[int], None],
    ) -> None:
        self._blob = blob
        self._request = request
        self._refusal = refusal
        self._wait = wait
        self._attempts = attempts
        self._on_read = on_read
        self._hash = hashlib.new(blob.digest.algorithm)
        self._seen = 0
        self._failures = 0
        self._progress_from = 0
        self._is_verified = False
        self._response: Response | None = self._open({})

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            chunks = []
            while chunk := self.read(BLOCK):
                chunks.append(chunk)
            return b"".join(chunks)
        if size == 0 or self._is_verified:
            return b""
        data = self._next(min(size, BLOCK))
        self._hash.update(data)
        self._seen += len(data)
        if self._seen > self._blob.size:
            raise Corrupt(f"blob {self._blob.digest}: more than {self._blob.size} bytes came")
        if data:
            self._on_read(self._seen)
        else:
            self._verify()
        return data

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _next(self, size: int) -> bytes:
        """
        The next bytes; none at the end, which is where the descriptor says.

        A connection that ends before is one that broke: a proxy that has no Content-Length for it
        cannot say so in any other way.
        """
        while True:
            try:
                if self._response is None:
                    self._response = self._resume()
                data = self._response.read(size)
                if data or self._seen >= self._blob.size:
                    return data
                raise Broken(
                    f"blob {self._blob.digest}: {self._seen} of {self._blob.size} bytes came"
                )
            except Broken as error:
                self.close()
                self._wait_after(error)

    def _wait_after(self, error: Broken) -> None:
        """Wait before the next attempt; *error* itself if there were too many."""
        if self._seen - self._progress_from >= _PROGRESS:
            self._failures = 0
        self._progress_from = self._seen
        self._failures += 1
        if self._failures >= self._attempts:
            raise error
        self._wait(self._failures)

    def _resume(self) -> Response:
        """
        An answer that stands where we are.

        A closed range: "bytes=N-" is 416 for the registry of crane. Servers may ignore it (200,
        the whole) or refuse it (416); then what we have is read again and thrown away.
        """
        if self._seen == 0:
            return self._open({})
        wanted = f"bytes={self._seen}-{self._blob.size - 1}"
        response = self._request({"Range": wanted})
        if response.status == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is not None and int(found[1]) == self._seen:
                return response
        if response.status in BUSY:
            error = self._refusal(response)
            raise Broken(str(error)) from error
        if response.status in (206, 416):
            response.close()
            response = self._open({})
        elif response.status != 200:
            raise self._refusal(response)
        _skip(response, self._seen)
        return response

    def _open(self, headers: dict[str, str]) -> Response:
        response = self._request(headers)
        if response.status != 200:
            raise self._refusal(response)
        if response.length not in (None, self._blob.size):
            response.close()
            raise Corrupt(
                f"blob {self._blob.digest}: {response.length} bytes are announced,"
                f" the descriptor says {self._blob.size}"
            )
        return response

    def _verify(self) -> None:
        if self._hash.hexdigest() != self._blob.digest.hex:
            raise Corrupt(
                f"blob {self._blob.digest}: the bytes hash to"
                f" {self._blob.digest.algorithm}:{self._hash.hexdigest()}",
                hint="the registry, or a proxy before it, damaged them",
            )
        self._is_verified = True


def _skip(response: Response, count: int) -> None:
    while count > 0:
        data = response.read(min(BLOCK, count))
        if not data:
            response.close()
            raise Broken("the answer ended before it was where the last one broke off")
        count -= len(data)
