from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from msiam.gallery.arrays import bits, booleans, floats, integers, texts


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers(values):
    assert integers(np.array(values, np.int64)).to_pylist() == values


@given(st.lists(st.floats(allow_nan=False)))
def test_floats(values):
    assert floats(values).to_pylist() == values


@given(st.lists(st.text()))
def test_texts(values):
    found = texts(values)
    found.validate(full=True)
    assert found.to_pylist() == values


@given(st.lists(st.none() | st.booleans()), st.integers(0, 9))
def test_booleans_and_back(values, start):
    known = np.array([value is not None for value in values], bool)
    found = booleans(np.array([bool(value) for value in values], bool), known)
    assert found.to_pylist() == values
    part = found[start:].fill_null(False)
    assert bits(part).tolist() == [bool(value) for value in values[start:]]
    assert (
        bits(pa.array(values, pa.bool_()).drop_null()[start:]).tolist()
        == [value for value in values if value is not None][start:]
    )


def test_nothing_of_it_imports_pandas():
    code = """if True:
        import sys
        import numpy as np
        import pyarrow as pa
        from msiam.gallery.filters import Filter
        from msiam.gallery.arrays import integers, texts
        columns = {"n": integers(np.arange(3)), "t": texts(["a", "b", "c"])}
        types = {"n": pa.int64(), "t": pa.large_string()}
        asked = "n > 0.5 and t in ('b', 'c') and not t like 'c%' and n between 0 and 5"
        assert Filter(asked).mask(types, [columns]).tolist() == [False, True, False]
        assert "pandas" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
