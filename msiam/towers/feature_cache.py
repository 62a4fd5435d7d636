"""Prepared features on disk, so that the next run of the same data reads and does not prepare.

A folder for each way of preparing, by the encoder's fingerprint, with Arrow files that are mapped
into memory: items' keys and their arrays. A file is whole or not there, and none is changed, so
that several processes may fill one folder. Folders may be removed at any time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from msiam.errors import RunError
from msiam.paths import replacing
from msiam.towers.encoder import Encoder, Rejected

#: Where the folders are. ``MSIAM_CACHE`` names another place; set to nothing, nothing is kept.
PLACE = "~/.cache/msiam/features"
#: Bytes of features that are gathered before they are written.
ENOUGH = 1 << 26
CHUNK = 1024  # items prepared at a time
DAYS_UNREAD = 30  # after which a way of preparing is forgotten
LIBRARIES = ("numpy", "pillow", "tokenizers", "torch", "torchvision", "transformers")

SCHEMA = pa.schema(
    [
        ("key", pa.binary(16)),
        ("kind", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("array", pa.large_binary()),
    ]
)


class FeatureCache:
    """What one way of preparing has made so far, by item.

    Args:
        folder: of this way alone; it need not be there.

    Attributes:
        writes: whether files can be written; else all stays in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[bytes, tuple[pa.RecordBatch, int]] = {}
        self._fresh: dict[bytes, np.ndarray] = {}
        self._bytes = 0
        self.writes = True
        for file in sorted(folder.glob("*.arrow")):
            self._open(file)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places or key in self._fresh

    def __getitem__(self, key: bytes) -> np.ndarray:
        """The array kept under a key: read-only, mapped from its file once that is written."""
        if key in self._fresh:
            return self._fresh[key]
        batch, row = self._places[key]
        kind, shape = (batch.column(name)[row].as_py() for name in ("kind", "shape"))
        # Of a single value, Arrow would make a copy in memory.
        _, ends, data = batch.column("array").buffers()
        start, stop = np.frombuffer(ends, np.int64, 2, 8 * row).tolist()
        return np.frombuffer(data[start:stop], kind).reshape(shape)

    def __setitem__(self, key: bytes, array: np.ndarray) -> None:
        self._fresh[key] = array
        self._bytes += array.nbytes
        if self._bytes >= ENOUGH:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet, into a file of its own.

        Where that cannot be done, it stays in memory, and a warning says so once: the work goes on.
        """
        if not self._fresh or not self.writes:
            return
        arrays = list(self._fresh.values())
        columns = [
            pa.array(list(self._fresh), pa.binary(16)),
            pa.array([array.dtype.str for array in arrays]),
            pa.array([array.shape for array in arrays], pa.list_(pa.int32())),
            _joined(arrays),
        ]
        file = self.folder / f"{uuid.uuid4().hex}.arrow"
        try:
            with replacing(file) as draft, pa.ipc.new_file(str(draft), SCHEMA) as writer:
                writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
            self._open(file)
        except (RunError, OSError) as error:
            self.writes = False
            warnings.warn(f"prepared features are not kept for the next run: {error}", stacklevel=2)
        else:
            self._fresh, self._bytes = {}, 0

    def _open(self, file: Path) -> None:
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(file)))
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except pa.ArrowInvalid:  # damaged
            file.unlink(missing_ok=True)
            return
        except FileNotFoundError:  # removed just now
            return
        for batch in batches:
            for row, key in enumerate(batch.column("key").to_pylist()):
                self._places[key] = batch, row


def _joined(arrays: Sequence[np.ndarray]) -> pa.LargeBinaryArray:
    """The bytes of each array, put together with one copy: there may be many of them."""
    flat = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    ends = np.cumsum([0, *map(len, flat)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.concatenate(flat))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(flat), buffers)


def prepare_kept(
    encoder: Encoder, items: Sequence[Any], progress: Callable[[int], object] | None = None
) -> list[np.ndarray | Rejected]:
    """``encoder.prepare`` of many items, of which those that are kept already are only looked up.

    Args:
        progress: told after each chunk how many items it had.
    """
    cache = _cache_of(encoder)
    keys = [item_key(item) if cache is not None else None for item in items]
    found: list[np.ndarray | Rejected | None] = [None] * len(items)
    for start in range(0, len(items), CHUNK):
        numbers = range(start, min(start + CHUNK, len(items)))
        missing = [n for n in numbers if cache is None or (k := keys[n]) is None or k not in cache]
        features = encoder.prepare([items[number] for number in missing]) if missing else []
        for number, feature in zip(missing, features, strict=True):
            key = keys[number]
            if cache is None or key is None or isinstance(feature, Rejected):
                found[number] = feature
            else:
                cache[key] = feature
        if progress is not None:
            progress(len(numbers))
    if cache is not None:
        cache.flush()
    # Only from here on do all that are kept lie in mapped files.
    return [_kept(cache, key) if one is None else one for one, key in zip(found, keys, strict=True)]


def _kept(cache: FeatureCache | None, key: bytes | None) -> np.ndarray:
    assert cache is not None and key is not None
    return cache[key]


def place() -> Path | None:
    """The folder of all that is kept, if anything is to be kept."""
    named = os.environ.get("MSIAM_CACHE", PLACE)
    return Path(named).expanduser() if named else None


def _cache_of(encoder: Encoder) -> FeatureCache | None:
    return cache_named(way(encoder))


def cache_named(name: str | None) -> FeatureCache | None:
    """What is kept under a way's name; None: nothing is to be kept."""
    top = place()
    if top is None or name is None:
        return None
    _tidy(top)
    return _opened(top / name)


@lru_cache(maxsize=8)
def _opened(folder: Path) -> FeatureCache:
    with contextlib.suppress(OSError):
        os.utime(folder)  # it is in use
    return FeatureCache(folder)


@cache
def _tidy(top: Path) -> None:
    """Remove what nothing has read for long, and what a killed process has left half-written."""
    now = time.time()
    with contextlib.suppress(OSError):  # another process may be tidying, too
        for folder in top.iterdir():
            if now - folder.stat().st_mtime > DAYS_UNREAD * 86_400:
                shutil.rmtree(folder, ignore_errors=True)
        for draft in top.glob("*/.*.draft"):
            if now - draft.stat().st_mtime > 86_400:
                draft.unlink(missing_ok=True)


def way(encoder: Encoder, made: str | None = None) -> str | None:
    """A name that changes whenever what the encoder prepares may change, its code with it.

    Args:
        made: changes whenever something else that is made of an item may change, of which this is
            then the name.

    None for an encoder whose code has no file, as in a notebook: it may change unseen.
    """
    parts = {type(part) for part in encoder.modules() if isinstance(part, Encoder)}
    codes = [_code(kind) for kind in sorted(parts, key=lambda kind: kind.__qualname__)]
    if None in codes:
        return None
    text = "\n".join([made or encoder.features_fingerprint(), *map(str, codes)])
    return blake2b(text.encode(), digest_size=16).hexdigest()


@cache
def _code(kind: type) -> str | None:
    """A digest of the packages that a class and those above it are in, and of who works for them.

    Of PyTorch and Pillow, whose sources are large, it is the version.
    """
    digest = blake2b(digest_size=16)
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    tops = {above.__module__.partition(".")[0] for above in kind.__mro__}
    for top in sorted(tops - {"builtins", "abc", "torch"}):
        file = getattr(sys.modules[top], "__file__", None)
        if file is None:
            return None
        whole = Path(file).name == "__init__.py"
        for source in sorted(Path(file).parent.rglob("*.py")) if whole else [Path(file)]:
            digest.update(source.read_bytes())
    return digest.hexdigest()


def item_key(item: Any) -> bytes | None:
    """16 bytes that change whenever what the item holds may have changed; None: it is not kept.

    Of a file they are of its path, its size, when it was written and when it came there, so that it
    need not be read.
    """
    digest = blake2b(digest_size=16)
    if isinstance(item, dict) and isinstance(item.get("bytes"), bytes):
        item = item["bytes"]
    if isinstance(item, bytes):
        digest.update(b"bytes\n" + item)
    elif isinstance(item, str | Path):
        digest.update(f"text\n{item}\n".encode(errors="surrogatepass"))
        with contextlib.suppress(OSError, ValueError):  # a text, or no file there
            if Path(item).is_absolute():
                facts = Path(item).stat()
                marks = facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino
                digest.update(repr(marks).encode())
    elif isinstance(item, np.ndarray):
        digest.update(f"array\n{item.dtype} {item.shape}\n".encode())
        digest.update(np.ascontiguousarray(item).view(np.uint8).data)
    elif isinstance(item, bool | int | float):
        digest.update(f"number\n{item!r}".encode())
    else:
        return None
    return digest.digest()
