"""Inverted lists that are larger than memory: filled in shards on disk, and merged into one file.

FAISS's own merge (``faiss.contrib.ondisk``) makes two files, of which one names the other by its
path; a gallery's index is one file, which may be copied. So the lists are written as FAISS writes
lists in memory, which it can map.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np

from msiam.gallery.faiss_options import inverted

#: Bytes of inverted lists in memory, above which they become a shard.
MOST = 1 << 30
#: What FAISS writes of inverted lists: kind, their number, bytes a vector; then how sizes come.
_HEAD = struct.Struct("<4sQQ4sQ")


def can_shard(index: Any) -> bool:
    """Whether the index is nothing but inverted lists, with a transformation before it or not."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    if not isinstance(index, faiss.IndexIVF) or index.invlists is None:
        return False
    return isinstance(faiss.downcast_InvertedLists(index.invlists), faiss.ArrayInvertedLists)


class Shards:
    """The shards of one index while it is built, in a temporary folder.

    An index without inverted lists is left as it is.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self._lists: Any = inverted(index) if can_shard(index) else None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._counts: list[int] = []

    def add(self, chunk: np.ndarray) -> None:
        self._index.add(chunk)
        lists = self._lists
        if lists is not None and lists.ntotal * (lists.code_size + 8) > MOST:
            self._spill()

    def merged(self) -> Path | None:
        """The file of all shards; None: all is in memory. It goes with the folder: see close."""
        if self._folder is None:
            return None
        if self._lists.ntotal:
            self._spill()
        path = Path(self._folder.name) / "merged"
        shards = [
            faiss.read_index(str(self._shard(n)), faiss.IO_FLAG_MMAP)
            for n in range(len(self._counts))
        ]
        with path.open("wb") as file:
            _write(self._index, [inverted(s).invlists for s in shards], self._counts, file)
        return path

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _shard(self, number: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / str(number)

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="msiam-shards-")
        write_file(self._index, self._shard(len(self._counts)))
        self._counts.append(self._index.ntotal)
        self._index.reset()


def write_file(index: Any, path: Path) -> None:
    # Not write_index(path): where the disk fills up at the last buffer, that only prints a line,
    # and leaves a file that is cut off. (FAISS's type stubs leave these classes out.)
    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def _write(index: Any, shards: list[Any], counts: list[int], file: IO[bytes]) -> None:
    """One index of all shards' lists, in their order; a position counts on from shard to shard."""
    lists = inverted(index)
    empty = _HEAD.pack(b"ilar", lists.nlist, lists.code_size, b"sprs", 0)
    index.ntotal = lists.ntotal = sum(counts)
    head = faiss.serialize_index(index).tobytes()
    index.reset()
    if not head.endswith(empty):
        raise RuntimeError("FAISS writes inverted lists in another way than this msiam knows")
    sizes = np.array([[s.list_size(n) for n in range(lists.nlist)] for s in shards], np.uint64)
    file.write(head[: -len(empty)])
    file.write(_HEAD.pack(b"ilar", lists.nlist, lists.code_size, b"full", lists.nlist))
    file.write(sizes.sum(axis=0, dtype=np.uint64).data)
    starts = np.cumsum([0, *counts[:-1]])
    for number in range(lists.nlist):
        filled = [
            (s, start) for s, start in zip(shards, starts, strict=True) if s.list_size(number)
        ]
        for shard, _ in filled:
            size = shard.list_size(number) * lists.code_size
            file.write(faiss.rev_swig_ptr(shard.get_codes(number), size).data)
        for shard, start in filled:
            ids = faiss.rev_swig_ptr(shard.get_ids(number), shard.list_size(number))
            file.write((ids + start).data)
