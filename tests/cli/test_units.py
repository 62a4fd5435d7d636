from __future__ import annotations

import pytest

from msiam.cli.units import bytes_as_text, seconds, seconds_as_text, size
from msiam.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("300mb", 3 * 10**8), (".5kB", 500),
        ("7B", 7), ("2 tib", 2**41),
    ],
)  # fmt: skip
def test_sizes(text, found):
    assert size(text, "--memory") == found


@pytest.mark.parametrize(
    ("text", "found"), [("5ms", 5e-3), ("0.5 s", 0.5), ("250us", 250e-6), ("250 µs", 250e-6)]
)
def test_times(text, found):
    assert seconds(text, "--latency") == pytest.approx(found)


@pytest.mark.parametrize("text", ["", "2", "GB", "-2GB", "2GX", "0GB", "2GB3", "2e3GB", "5ms"])
def test_what_is_no_size(text):
    with pytest.raises(RecipeError, match=r"--memory: found '.*'; give it as 2GB \(B, kB, MB, GB"):
        size(text, "--memory")


@pytest.mark.parametrize("text", ["", "5", "5 minutes", "0ms", "2GB"])
def test_what_is_no_time(text):
    with pytest.raises(RecipeError, match=r"--latency: found '.*'; give it as 5ms"):
        seconds(text, "--latency")


def test_as_text():
    assert [bytes_as_text(n) for n in (999, 123_456, 5 * 10**6, 2_340_000_000, 10**13)] == [
        "1 kB", "123 kB", "5.0 MB", "2.3 GB", "10.0 TB",
    ]  # fmt: skip
    assert [seconds_as_text(t) for t in (12.34, 0.0123, 5e-5)] == ["12.3 s", "12.30 ms", "50 µs"]
