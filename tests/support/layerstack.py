"""A stack of overlay layers, changed by scripts, with the tars between them."""

from __future__ import annotations

import io
import os
from pathlib import Path

from support.trees import listing, overlay, settle, shell

from layers.apply import apply
from layers.compress import decompressor
from layers.diff import diff
from layers.layerwrite import LayerWriter, WrittenLayer
from layers.store import Store
from layers.tarread import tar_entries

# Three layers that hold all a layer can hold and change it in all ways we know.
BASE = r"""
mkdir -p d1/sub/deep d2 d3/keep opq/a/b tdir 'sp ace' dm/x/y onlychmod onlyx mvdir/in
mkdir replaced_by_file
for f in d1/f1 d1/sub/f2 d2/x d3/keep/y opq/a/b/old opq/o2 replaced_by_dir replaced_by_file/q \
    touched moved mvdir/in/z same xfile capfile $'new\nline' $'\xff\xfebad'
do echo "$f" > "$f"; done
ln d1/f1 d1/f1link; ln d1/f1 d1/f1link2; ln -s d1 symd; ln -s /etc/passwd abs; ln -s ../../.. up
ln -s d1 link_to_replace; mkfifo fifo; chmod 4755 capfile; mkdir -m 1777 tmp; mkdir -m 2755 sg
touch "$(printf 'l%.0s' $(seq 1 250))"
mkdir -p $(printf 'dir%040d/' 1 2 3 4 5 6); echo deep > $(printf 'dir%040d/' 1 2 3 4 5 6)/f
setfattr -n user.foo -v bar xfile; setfattr -n user.d -v 1 onlyx
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 capfile
"""
CHANGES = r"""
rm d1/f1link; echo more >> d1/f1; rm -rf d2; mkdir d2; echo new > d2/new
rm -rf opq/a; mkdir -p opq/a/b; echo fresh > opq/a/b/fresh; rm -rf d3
rm replaced_by_dir; mkdir replaced_by_dir; echo i > replaced_by_dir/i
rm -rf replaced_by_file; echo f > replaced_by_file
rm link_to_replace; mkdir link_to_replace; echo k > link_to_replace/k
touch touched; mv moved moved2; mv mvdir mvdir2; ln same same_link; ln same d1/same3
chmod 700 onlychmod; setfattr -n user.d -v 2 onlyx; setfattr -n user.n -v 0x01ff xfile
touch -d @1700000000 tmp; chown 5:6 touched; chown -h 5:6 symd; rm abs; ln -s new abs; rm fifo
mkdir 'sp ace/n'; rm -rf dm/x; echo gone > was; rm was; mkdir wasd; rmdir wasd
mkdir -p d1/newopq; rm -rf d1/newopq; mkdir d1/newopq; mkdir tdir/a; rmdir tdir/a
rm $'new\nline'; echo s > $'\xff\xfebad'; mkfifo -m 640 f2
chown 1000:1000 capfile; chmod 6755 capfile
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 capfile
rm -f $(printf 'dir%040d/' 1 2 3 4 5 6)/f; echo 9 > big; truncate -s 5M big
mknod dev c 1 7; mknod blk b 7 1; chmod 666 dev
"""
MORE = r"""
rm -rf d2; mkdir d2; touch d2/a; rm -rf opq; echo 1 > opq; rm same
rm -rf link_to_replace; ln -s / link_to_replace; mkdir d3; touch d3/x; chmod 711 .
"""


class Layers:
    """A stack of layer directories, and a store for the tars between them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.store = Store.at(base / "store")
        self.stack: list[Path] = []  # topmost first

    def base_layer(self, script: str) -> None:
        place = self.base / "base"
        place.mkdir()
        shell(script, place)
        settle(place)
        self.stack.insert(0, place)

    def change(self, script: str) -> tuple[Path, dict[str, tuple[object, ...]]]:
        """Run *script* on an overlay of the stack: the upper directory, and what was seen."""
        upper = self.base / f"upper{len(self.stack)}"
        with overlay(*self.stack, upper=upper) as merged:
            shell(script, merged)
            return upper, listing(merged)

    def change_only(self, script: str) -> Path:
        upper = self.base / f"upper{len(self.stack)}"
        with overlay(*self.stack, upper=upper) as merged:
            shell(script, merged)
        return upper

    def diff(
        self, upper: Path, *, skip: frozenset[str] = frozenset()
    ) -> tuple[WrittenLayer, bytes]:
        with overlay(*self.stack) as merged, self.store.session() as session:
            fds = [os.open(place, os.O_RDONLY) for place in (upper, merged)]
            try:
                with LayerWriter(session) as out:
                    diff(fds[0], fds[1], out, skip=skip)
                    written = out.finish()
            finally:
                for fd in fds:
                    os.close(fd)
        raw = self.store.open(written.layer.blob)
        tar = decompressor(written.layer.blob.media_type, raw)
        data = b"".join(iter(lambda: tar.read(1 << 20), b""))
        raw.close()
        return written, data

    def apply(self, tar: bytes) -> Path:
        """Unpack *tar* as the new topmost layer."""
        place = self.base / f"layer{len(self.stack)}"
        place.mkdir()
        with overlay(*self.stack) as merged:
            fds = [os.open(path, os.O_RDONLY) for path in (place, merged)]
            apply(io.BytesIO(tar), fds[0], lower_fd=fds[1])
            for fd in fds:
                os.close(fd)
        self.stack.insert(0, place)
        return place

    def merged(self) -> dict[str, tuple[object, ...]]:
        with overlay(*self.stack) as merged:
            return listing(merged)

    def paths(self, script: str, *, skip: frozenset[str] = frozenset()) -> list[str]:
        """The entries of the layer that *script* makes."""
        upper, _ = self.change(script)
        _, tar = self.diff(upper, skip=skip)
        return [entry.path for entry, _ in tar_entries(io.BytesIO(tar))]
