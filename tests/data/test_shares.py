"""Classes held out beside the split, and the share of rows that is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from msiam import Model
from msiam.data.examples import Examples
from msiam.data.parts import training_parts
from msiam.data.shares import trained_on, unseen_classes
from msiam.recipe import Data

TEXT = {"encoder": "lstm", "dim": 4, "hidden": 4, "min_count": 1}


def examples(classes):
    numbers = np.arange(len(classes))
    return Examples({"a": numbers}, {"a": np.array(classes)}, None, numbers, classed=True)


def test_whole_classes_are_held_out_and_no_row_is_lost():
    whole = examples(np.repeat(np.arange(20), 10))
    unseen, rest, notes = unseen_classes(whole, {"a": "text"}, 0.2, seed=3)
    held_out = unseen["unseen"]
    assert len(held_out) == 40 and len(rest) == 160
    assert not set(held_out.groups["a"]) & set(rest.groups["a"])
    assert notes[0].startswith("40 rows, all those of 4 classes, are measured apart")
    assert unseen_classes(whole, {"a": "text"}, 0, seed=3) == ({}, whole, [])


@pytest.mark.parametrize(("share", "kept"), [(0.1, 20), (0.001, 1), (1.0, 200)])
def test_a_share_of_the_rows_is_kept(share, kept):
    whole = examples(np.repeat(np.arange(20), 10))
    found, notes = trained_on(whole, share, seed=0)
    assert len(set(found.rows.tolist())) == kept
    assert notes == (
        []
        if kept == 200
        else [f"Of 200 rows that are left for training, {kept} are trained on (data.split.train)."]
    )


def test_the_parts_are_the_same_pictures_with_and_without_classes():
    """Else a training without labels would have seen what is measured after one with some."""
    table = [{"a": f"{n} {n}", "kind": f"kind {n % 8}"} for n in range(200)]
    split = {"by": "item", "validation": 0.1, "test": 0.2}
    with_classes = Data(table="-", classes={"a": "kind"}, split=split | {"train": 0.1})
    without = Data(table="-", draw={"view": "itself"}, split=split)
    one = Model({"text": TEXT}, {"a": "text"})
    two = Model({"text": TEXT, "slow": {"follows": "text"}}, {"a": "text", "view": "slow"})
    labelled = training_parts(with_classes, one, 0, table).examples
    views = training_parts(without, two, 0, table).examples
    for part in ("validation", "test"):
        assert labelled[part].rows.tolist() == views[part].rows.tolist()
        assert (views[part].columns["view"] == views[part].columns["a"]).all()
        assert (views[part].groups["view"] == views[part].groups["a"]).all()
    assert (len(labelled["train"]), len(views["train"])) == (14, 140)
    assert set(labelled["train"].rows) <= set(views["train"].rows)
