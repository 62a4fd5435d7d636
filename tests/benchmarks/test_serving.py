"""What benchmarks/serving.py judges, and a small run of it."""

from __future__ import annotations

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")


@pytest.fixture
def serving(benchmark_module):
    return benchmark_module("serving")


def load(serving, rate, statuses=None, memory=(100,) * 8):
    return serving.Load(
        seconds=1.0,
        times=[0.01] * rate,
        statuses=serving.collections.Counter(statuses or {200: rate}),
        memory=list(memory),
    )


def test_503_is_no_error_and_five_times_is_enough(serving):
    assert serving.missed(load(serving, 10), load(serving, 50, {200: 50, 503: 9})) == []


def test_what_is_missed_is_said(serving):
    growing = [100, 100, 100, 105, 110, 120, 130, 140]
    slow, grown = serving.missed(load(serving, 10), load(serving, 40, memory=growing))
    assert slow == "throughput: 4.00 × one request at a time, must be 5"
    assert grown == "memory: 1.40 × that of the first quarter, at most 1.1"
    broken = load(serving, 50, {200: 50, 500: 1})
    broken.broken["IncompleteReadError"] += 1
    (wrong,) = serving.missed(load(serving, 10), broken)
    assert wrong == "all clients: 50 answers, and errors {500: 1, 'IncompleteReadError': 1}"


def test_a_small_run(serving, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["serving.py", "--tiny"])
    assert serving.main() == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| clients", "| 1", "| 8"]
    assert all(" | 0 | 0 | " in row for row in rows[1:])  # no 503, and no errors
