"""What ``make bench`` says of a row, and when it says that one is missed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture
def speed(benchmark_module):
    return benchmark_module("speed")


def measured(speed, ours, memory):
    row = speed.ROWS["train_exact"]  # at least 1.7 times as fast, on 0.85 of the memory
    return speed.Measured(row, "ours", 32, [2.0, 2.0, 2.0], ours, (1000, memory), "they do")


def test_a_row_that_meets_its_ratios_misses_nothing(speed):
    assert measured(speed, [1.0, 1.1, 5.0], 850).missed() == []  # the median counts


def test_what_is_too_slow_or_too_large_is_said(speed):
    slow, large = measured(speed, [1.0, 1.5, 1.5], 900).missed()
    assert slow == "train_exact: 1.33 times as fast, must be at least 1.7"
    assert large == "train_exact: memory 0.9 of theirs, must be at most 0.85"


def test_vectors_must_agree(speed, tmp_path):
    row = speed.ROWS["encode_bf16"]
    np.save(tmp_path / "theirs.npy", np.eye(2))
    np.save(tmp_path / "ours.npy", 3 * np.eye(2))
    assert speed.vectors_agree(row, tmp_path) == {"ours": "least cosine 1.000000"}
    np.save(tmp_path / "ours.npy", np.array([[1, 0.1], [0, 1]]))
    with pytest.raises(speed.DisagreeError, match=r"the least cosine is 0.9950"):
        speed.vectors_agree(row, tmp_path)


def test_the_area_counts_ties_as_half(speed):
    scores, same = np.array([1.0, 2, 2, 3, 0, 2]), np.array([0, 1, 0, 1, 0, 1], bool)
    assert speed.auc(scores, same) == pytest.approx(roc_auc_score(same, scores))


def test_both_must_end_up_equally_good_over_all_seeds(speed, tmp_path):
    row = speed.ROWS["train_defaults"]
    same = np.arange(2000) % 2
    (tmp_path / "held_out.json").write_text(json.dumps([{"label": int(one)} for one in same]))
    noise = np.random.default_rng(0).normal(size=(2, 2000))
    np.save(tmp_path / "theirs.npy", same + noise)
    np.save(tmp_path / "ours.npy", same + [[1.001], [0.999]] * noise)
    said = speed.curves_agree(row, tmp_path, tiny=False)["ours"]
    theirs, ours = (
        [roc_auc_score(same, scores) for scores in np.load(tmp_path / f"{side}.npy")]
        for side in ("theirs", "ours")
    )
    assert said.startswith(f"AUC {np.mean(ours):.4f} ({min(ours):.4f} to {max(ours):.4f}), theirs")
    for share in (1.5, 0.5):  # of one seed
        np.save(tmp_path / "ours.npy", same + [[1.0], [share]] * noise)
        with pytest.raises(
            speed.DisagreeError, match=rf"theirs {np.mean(theirs):.4f} .* within 0.003"
        ):
            speed.curves_agree(row, tmp_path, tiny=False)


def test_a_row_without_its_data_is_left_out_by_name(speed, monkeypatch, tmp_path):
    monkeypatch.setenv("MSIAM_DATA", str(tmp_path))
    said = speed.left_out(speed.ROWS["encode_pictures"])
    assert said.startswith("encode_pictures: left out, there is no ") and "MSIAM_DATA" in said


def test_a_row_whose_peer_is_not_installed_is_left_out_by_name(speed, monkeypatch, tmp_path):
    monkeypatch.setattr(speed.speed_data, "place", lambda file: Path(__file__))
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    assert "sentence_transformers is not installed" in speed.left_out(speed.ROWS["train_exact"])
