"""Decisions under attack: of pictures by a small untrained network, and of texts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import msiam
from msiam import errors
from msiam.data.parts import test_part as part_of
from msiam.evaluation.adversarial import Adversarial
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.measure import embed_part
from msiam.evaluation.report import ReportData, render
from msiam.recipe_data import Data
from msiam.registry.options import parse_options

CNN = {"encoder": "small_cnn", "dim": 8, "size": 32, "width": 4, "channels": 1, "fit": "stretch"}
TEXTS = [
    {"a": f"how to {verb} {food} quickly", "b": f"the way to {verb} {food}"}
    for verb in ("cook", "freeze", "season")
    for food in ("bread", "pizza", "lentils", "pasta")
]


def png(pixels):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return {"bytes": buffer.getvalue(), "path": None}


def embedded_of(model, data, rows):
    for name in model.leaders:
        columns = [column for column, tower in model.columns.items() if tower == name]
        model.tower(name).fit([row[column] for row in rows for column in columns])
    model.eval()
    parts = part_of(data, model, rows)
    for name in model.leaders:
        parts.items[name].prepare(model.tower(name).encoder)
    return embed_part(model, parts, "test")


@pytest.fixture(scope="module")
def pictures():
    """24 noisy pictures of six classes, and a network that has learnt a little about them."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(6):
        pattern = rng.integers(60, 196, (8, 8)).repeat(4, 0).repeat(4, 1)
        for _ in range(4):
            pixels = (pattern + rng.normal(0, 40, (32, 32))).clip(0, 255).astype(np.uint8)
            rows.append({"image": png(pixels), "kind": f"k{number}"})
    torch.manual_seed(0)
    model = msiam.Model({"one": CNN}, {"image": "one"})
    data = Data(table="given", classes={"image": "kind"})
    untrained = embedded_of(model, data, rows)
    learn(model.tower("one"), untrained)
    features = torch.from_numpy(np.stack(untrained.features["one"]))
    with torch.no_grad():
        vectors = model.eval().tower("one")({"pixels": features}).numpy()
    return dataclasses.replace(untrained, vectors={"one": vectors})


def learn(tower, embedded, steps=25):
    features = torch.from_numpy(np.stack(embedded.features["one"]))
    groups = torch.from_numpy(embedded.examples.groups["image"])
    same = (groups[:, None] == groups).float()
    optimizer = torch.optim.Adam(tower.parameters(), 0.01)
    tower.train()
    for _ in range(steps):
        vectors = tower({"pixels": features})
        loss = (vectors @ vectors.T - same).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@pytest.fixture(scope="module")
def texts():
    torch.manual_seed(0)
    tower = {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1, "tokenizer": "bpe"}
    model = msiam.Model({"text": tower}, {"a": "text", "b": "text"})
    return embedded_of(model, Data(table="given"), TEXTS)


def judge(**options):
    return Adversarial(parse_options(Adversarial, options, "evaluate (adversarial)"))


SIZES = {"linf": [0, 0.5, 2, 8, 32], "l2": [0, 16, 256], "steps": 5}


@pytest.fixture(scope="module")
def found(pictures):
    return judge(**SIZES).evaluate(pictures, None)


def test_with_nothing_allowed_nothing_changes(found):
    clean = found.metrics["accuracy"]
    assert clean > 0.7
    for attack in ("fgsm_linf", "pgd_linf", "fgsm_l2", "pgd_l2"):
        assert found.metrics[f"{attack}/accuracy@0"] == clean


@pytest.mark.parametrize("attack", ["fgsm_linf", "pgd_linf", "fgsm_l2", "pgd_l2"])
def test_accuracy_falls_as_more_is_allowed(found, attack):
    curve = found.curves["survival"][attack]["accuracy"]
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] < curve[0] - 0.2


def test_a_stronger_attack_is_never_weaker(found, pictures):
    more = judge(**SIZES | {"linf": [2], "l2": []}).evaluate(pictures, None).metrics
    for norm, sizes in (("linf", SIZES["linf"]), ("l2", SIZES["l2"])):
        once, often = (
            [found.metrics[f"{attack}_{norm}/accuracy@{size:g}"] for size in sizes]
            for attack in ("fgsm", "pgd")
        )
        assert all(strong <= weak for strong, weak in zip(often, once, strict=True))
        assert sum(often) < sum(once)
    assert more["pgd_linf/accuracy@2"] <= more["fgsm_linf/accuracy@2"]


def test_a_random_change_of_the_same_size_does_far_less(found, pictures):
    """So it is the direction that turns decisions, not the size."""
    tower = pictures.model.tower("one")
    features = np.stack(pictures.features["one"]).astype(np.float32)
    signs = np.random.default_rng(0).choice([-8.0, 8.0], features.shape).astype(np.float32)
    noisy = torch.from_numpy((features + signs).clip(0, 255))
    with torch.no_grad():
        vectors = tower({"pixels": noisy}).numpy()
    changed = dataclasses.replace(pictures, vectors={"one": vectors})
    after = judge(linf=[0], l2=[], steps=1).evaluate(changed, None).metrics["accuracy"]
    assert after > found.metrics["pgd_linf/accuracy@8"] + 0.2


def test_the_threshold_is_the_calibrations(pictures):
    """Where everything is called the same, different pairs are lost, and same ones hard to turn."""
    lenient = Calibration(threshold=-1.0, f1_threshold=0.0, slope=1.0, intercept=0.0)
    metrics = judge(linf=[8], l2=[], steps=2).evaluate(pictures, lenient).metrics
    assert metrics["accuracy"] == metrics["pgd_linf/accuracy@8"] == 0.5


def test_turned_pairs_are_shown_with_a_picture_that_does_turn_them(found, pictures):
    cards = found.shown["Turned by pgd_linf"]
    assert 0 < len(cards) <= 4
    for card in cards:
        clean, attacked, _ = card.items.values()
        column, *_ = card.items
        assert column == "image" and clean["bytes"]
        assert attacked.size == (32, 32)
    report = ReportData("t", shown=found.shown)
    report.curves, report.metrics = {"a": found.curves}, {"a": found.metrics}
    html = render(report)
    assert "Turned by pgd_linf" in html and "Decisions that are still right" in html


def test_most_pairs_that_are_attacked(pictures):
    metrics = judge(linf=[1], l2=[], steps=1, pairs=7).evaluate(pictures, None).metrics
    assert metrics["pairs"] == 7


def test_weights_and_gradients_stay_as_they_are(pictures):
    model = pictures.model
    before = model.fingerprint()
    judge(linf=[4], l2=[4], steps=2).evaluate(pictures, None)
    assert model.fingerprint() == before
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["typos", "synonyms"])
def test_texts_lose_decisions_swap_by_swap(texts, kind):
    found = judge(swaps=3, tries=99).evaluate(texts, None)
    curve = found.curves["survival"][kind]
    assert curve["size"] == [0, 1, 2, 3]
    assert curve["accuracy"] == sorted(curve["accuracy"], reverse=True)
    assert curve["accuracy"][3] < curve["accuracy"][0] == found.metrics["accuracy"]


def test_a_text_shown_has_one_swap_for_each_of_its_size(texts):
    cards = judge(swaps=1, tries=99).evaluate(texts, None).shown["Turned by typos"]
    for card in cards:
        before, after, _ = card.items.values()
        assert before != after and sorted(before) == sorted(after)


def test_the_other_column_can_be_attacked(texts):
    cards = judge(swaps=1, column="b").evaluate(texts, None).shown["Turned by typos"]
    assert all([*card.items] == ["b", "attacked", "compared with (a)"] for card in cards)


def test_what_cannot_be_attacked_is_said(texts, pictures):
    with pytest.raises(errors.DataError, match=r"column: found 'c'; the pairs .* of a and b"):
        judge(column="c").evaluate(texts, None)
    bare = dataclasses.replace(pictures, model=None)
    with pytest.raises(errors.DataError, match="these vectors came without one"):
        judge().evaluate(bare, None)
    with pytest.raises(errors.RecipeError, match="linf and l2 are both empty"):
        judge(linf=[], l2=[])
