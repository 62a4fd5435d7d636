"""Arrays of Arrow's, without what it imports on the way.

``pa.array``, ``pa.scalar`` and ``to_numpy`` import pandas first, for half a second, which a search
from the command line would wait for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def integers(values: np.ndarray) -> pa.Array:
    """(n,) int64 as an array."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def floats(values: Sequence[float]) -> pa.Array:
    raw = np.asarray(values, np.float64)
    return pa.Array.from_buffers(pa.float64(), len(raw), [None, pa.py_buffer(raw)])


def texts(values: Sequence[str]) -> pa.Array:
    raw = [value.encode(errors="surrogatepass") for value in values]
    ends = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(raw))]
    return pa.Array.from_buffers(pa.large_string(), len(raw), buffers)


def booleans(values: np.ndarray, known: np.ndarray | None = None) -> pa.Array:
    """(n,) bool as an array; null where it is not known, (n,) bool."""
    bits, valid = (
        None if part is None else pa.py_buffer(np.packbits(part, bitorder="little"))
        for part in (values, known)
    )
    return pa.Array.from_buffers(pa.bool_(), len(values), [valid, bits])


def bits(array: pa.Array) -> np.ndarray:
    """An array of true and false, of which none is null, as (n,) bool."""
    raw = np.frombuffer(array.buffers()[1], np.uint8)
    found = np.unpackbits(raw, count=array.offset + len(array), bitorder="little")
    return found[array.offset :].view(bool)


def filled(numbers: pa.Array) -> np.ndarray:
    """Whole numbers as (n,) int64; −1 where there is none."""
    found = pc.fill_null(numbers.cast(pa.int64()), integers(np.array([-1]))[0])
    return np.frombuffer(found.buffers()[1], np.int64)[found.offset :][: len(found)]
