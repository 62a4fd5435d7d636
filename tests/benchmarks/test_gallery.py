"""The benchmarks of galleries on few records: that all of them runs, and what they judge."""

from __future__ import annotations

import re
import sys

import pytest


def test_overhead_runs_and_says_what_is_missed(benchmark_module, monkeypatch, capsys):
    overhead = benchmark_module("gallery_overhead")
    small = {"FEWEST": 1, "SECONDS": 0, "BATCH": 20, "FACTORIES": ("Flat", "IVF256,Flat")}
    for name, value in {**small, "MOST_TIMES": 0, "MOST_MORE": -1e9}.items():
        monkeypatch.setattr(overhead, name, value)
    monkeypatch.setattr(sys, "argv", ["gallery_overhead.py", "--count", "500"])
    with pytest.raises(SystemExit, match=r"missed: Flat: .* × at .*; Flat: .* ms more for one"):
        overhead.main()
    assert len(re.findall(r"^\| (?:Flat|IVF256,Flat) \| \d", capsys.readouterr().out, re.M)) == 2


def test_size_runs_and_says_what_is_missed(benchmark_module, monkeypatch, capsys, tmp_path):
    size = benchmark_module("gallery_size")
    monkeypatch.setattr(size, "SLOWEST_OPENING", 0)
    arguments = ["--count", "20000", "--factory", "IVF16,SQ8", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gallery_size.py", *arguments])
    with pytest.raises(SystemExit, match=r"opened in .* s, and 0 s is the goal"):
        size.main()
    said = capsys.readouterr().out
    assert float(re.search(r"recall@10 \| ([\d.]+)", said)[1]) > 0.9
    assert list(tmp_path.iterdir()) == []
