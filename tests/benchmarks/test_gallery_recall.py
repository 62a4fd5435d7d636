"""What benchmarks/gallery_recall.py judges, in a small run of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from msiam.gallery import tuning, tuning_measure
from msiam.gallery.tuning_candidates import Candidate


@pytest.fixture
def bench(benchmark_module, monkeypatch):
    found = benchmark_module("gallery_recall")
    monkeypatch.setattr(found, "FACTORIES", ("Flat", "HNSW8", "IVF32,RaBitQfs,RFlat"))
    monkeypatch.setattr(found, "RECALLS", (0.8,))
    monkeypatch.setattr(found, "FRESH", 500)
    kinds = [Candidate("Flat", 256), Candidate("IVF32,Flat", 264, ("nprobe", 1, 32))]
    monkeypatch.setattr(tuning, "candidates", lambda count, dim: iter(kinds))
    monkeypatch.setattr(tuning_measure, "SINGLES", 3)
    monkeypatch.setattr(sys, "argv", ["gallery_recall.py", "--count", "3000"])
    return found


def test_a_small_run_misses_nothing(bench, capsys):
    bench.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    flat, graph, codes, _, tuned = rows[1:]
    assert flat.count("1.000 / 1.000") == 3
    assert graph.count("/ 1.000, ") == 3 and codes.count("refused / 1.000, ") == 3
    assert tuned.startswith("| 0.8 | 1.000 / 1.000 | ") and "not reached" not in tuned


def test_what_is_missed_is_said(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, "POINT", -1)  # so that more is asked than there is
    with pytest.raises(SystemExit, match=r"missed: .*tuned to 0.8: [01]\..*on fresh queries"):
        bench.main()


def test_recall_counts_what_is_as_near_as_the_last(bench):
    scores = np.array([[0.9, 0.5], [0.9, -np.inf]])
    assert bench.recall(scores, np.array([0.5, 0.7])) == 0.75
