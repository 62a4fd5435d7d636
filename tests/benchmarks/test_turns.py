"""What the benchmarks share: processes that take turns, and a table between two lines of a page."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks/turns.py"
spec = importlib.util.spec_from_file_location("bench_turns", FILE)
turns = importlib.util.module_from_spec(spec)
spec.loader.exec_module(turns)

SIDE = f"""
import sys, time
sys.path.insert(0, {str(FILE.parent)!r})
from turns import Channel, held, peak
channel = Channel()
print("what a package prints")
held_before = held()
block = bytearray(b"1" * 50_000_000)
channel.tell({{"grown": peak() - held_before}})
channel.answer(lambda: open(sys.argv[1], "a").write(sys.argv[2]))
"""


@pytest.fixture
def start(tmp_path):
    """A side that writes its name into a file with each step."""
    (tmp_path / "side.py").write_text(SIDE)
    return lambda name: turns.Side(str(tmp_path / "side.py"), str(tmp_path / "steps"), name)


def test_sides_take_turns(start, tmp_path):
    sides = [start("t"), start("o")]
    assert all(40_000_000 < side.read()["grown"] < 200_000_000 for side in sides)
    taken = turns.in_turns(sides, [1, 3], (1, 2), budget=60)
    for side in sides:
        side.close()
        assert side.process.returncode == 0
    assert (tmp_path / "steps").read_text() == "tooo" * 2
    assert [len(each) for each in taken] == [2, 2] and min(map(min, taken)) > 0


class Slow:
    def take(self, steps):
        return float(steps)


@pytest.mark.parametrize(("budget", "count"), [(60, 7), (1.75, 3), (0.4, 1)])
def test_there_are_fewer_turns_where_they_take_long(monkeypatch, budget, count):
    clock = iter(range(100))
    monkeypatch.setattr(turns.time, "perf_counter", lambda: next(clock))
    assert turns.in_turns([Slow()], [2], (3, 7), budget) == [[2.0] * count]


def test_a_side_that_ends_is_an_error(tmp_path):
    (tmp_path / "ends.py").write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="ended with 3"):
        turns.Side(str(tmp_path / "ends.py")).read()


def test_the_table_goes_between_its_marks(tmp_path):
    page, marks = tmp_path / "page.md", ("<!-- a -->", "<!-- end -->")
    page.write_text("before\n<!-- a -->\nold\n<!-- end -->\nafter\n")
    turns.write_table(page, marks, "new\n")
    assert page.read_text() == "before\n<!-- a -->\nnew\n<!-- end -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match=r"page\.md: has no lines '<!-- a -->' and"):
        turns.write_table(page, marks, "new\n")


def test_numbers_as_people_read_them():
    assert turns.spread([0.5, 1.0, 0.6]) == "0.6 (0.5 to 1)"
    assert (turns.in_seconds(2), turns.in_seconds(0.25)) == ("2 s", "250 ms")
    assert (turns.in_bytes(2.5e9), turns.in_bytes(25e6)) == ("2.5 GB", "25 MB")
