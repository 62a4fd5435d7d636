"""Variants: rows, items and classes once for each, and a batch that has the encoder make them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from msiam import Model, errors
from msiam.data.batches import Collator
from msiam.data.parts import prepare, training_parts
from msiam.data.variants import with_variants
from msiam.recipe import Data

TURNS = {"encoder": "conv4", "size": 16, "widths": [2, 2, 2, 2], "channels": 1, "turns": True}


@pytest.fixture
def parts_of(tmp_path):
    """The parts of twelve pictures of six classes, prepared, for a tower with such options."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(12):
        path = tmp_path / f"{n}.png"
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(path)
        rows.append({"image": str(path), "kind": f"kind {n // 2}"})

    def build(**options):
        model = Model({"picture": TURNS | options}, {"image": "picture"})
        model.tower("picture").fit([])
        data = Data(table="-", classes={"image": "kind"}, split={"validation": 2, "test": 0})
        parts = training_parts(data, model, 0, rows)
        prepare(parts, model, tmp_path / "rejected.csv", allow=False)
        return model, parts

    return build


def test_each_row_is_there_once_a_turn_and_each_turn_of_a_class_is_a_class(parts_of):
    model, parts = parts_of()
    examples = parts.examples["train"]
    found = with_variants(examples, model, parts.items)
    n = len(examples)
    assert len(found) == 4 * n
    assert len(found.distinct_groups()) == 4 * len(examples.distinct_groups())
    assert len(np.unique(found.columns["image"])) == 4 * len(np.unique(examples.columns["image"]))
    for turn in range(4):
        part = found.select(np.arange(turn * n, (turn + 1) * n))
        assert (part.rows == examples.rows).all()
        assert (part.groups["image"] // 4 == examples.groups["image"]).all()
        assert (part.groups["image"] % 4 == turn).all()


def test_a_batch_has_the_pictures_turned(parts_of):
    model, parts = parts_of()
    examples = with_variants(parts.examples["train"], model, parts.items)
    collator = Collator(examples, model.columns, parts.items, model.encoders)
    n = len(parts.examples["train"])
    batch = collator(range(0, 4 * n, 3))
    pixels = batch["batches"]["picture"][0]["pixels"].numpy()[batch["index"]["image"].numpy()]
    for place, row in enumerate(range(0, 4 * n, 3)):
        item = parts.examples["train"].columns["image"][row % n]
        feature = parts.items["picture"].features[item]
        assert (pixels[place] == np.rot90(feature, row // n)).all()


def test_without_turns_nothing_changes(parts_of):
    model, parts = parts_of(turns=False)
    examples = parts.examples["train"]
    assert with_variants(examples, model, parts.items) is examples


def test_what_has_no_classes_or_does_not_learn_is_refused(parts_of, tmp_path):
    model, parts = parts_of(freeze=1)
    with pytest.raises(errors.RecipeError, match=r"towers\.picture: .* which a frozen encoder"):
        with_variants(parts.examples["train"], model, parts.items)
    two = Model({"picture": TURNS}, {"a": "picture", "b": "picture"})
    rows = [{"a": f"{tmp_path}/{n}.png", "b": f"{tmp_path}/{n + 1}.png"} for n in range(0, 12, 2)]
    parts = training_parts(Data(table="-", split={"validation": 1, "test": 1}), two, 0, rows)
    with pytest.raises(errors.RecipeError, match=r"takes one column with data\.classes, and no d"):
        with_variants(parts.examples["train"], two, parts.items)
