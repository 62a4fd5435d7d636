"""The adversary: what it changes, how far, and that it leaves everything else as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import msiam
from msiam.errors import RecipeError
from msiam.losses.base import Targets, WeightedSum
from msiam.recipe import AdversarialTerm, Train
from msiam.registry import registry
from msiam.registry.options import parse_options
from msiam.training.adversarial import Adversary, check_adversary
from msiam.training.objective import Objective

CNN = {"encoder": "small_cnn", "dim": 8, "size": 32, "width": 4, "channels": 1, "fit": "stretch"}
LSTM = {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1}
CLASSES = torch.arange(4).repeat_interleave(3)


def made_loss(name="supcon", **options):
    cls = registry().find("loss", name).load()
    return WeightedSum([cls(parse_options(cls, options, "loss"))], [1.0])


def model_of(towers, columns):
    torch.manual_seed(0)
    model = msiam.Model(towers, columns)
    for name in model.towers:
        model.tower(name).fit(["some words", "more words"])
    return model.train()


def pixels(seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (12, 32, 32, 1), dtype=np.uint8))


@pytest.fixture
def step():
    """A model of pictures in training, and a step of twelve in four classes."""
    model = model_of({"one": CNN}, {"image": "one"})
    given = {
        "batches": {"one": [{"pixels": pixels()}]},
        "index": {"image": torch.arange(12)},
        "groups": {"image": CLASSES},
    }
    return model, given


def cost_of(model, given, loss):
    def cost(batches):
        vectors = model.tower("one")(batches["one"][0])
        return loss({"image": vectors}, Targets(given["groups"]))

    return cost


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 4.0), ("l2", 64.0)])
def test_the_loss_of_what_it_finds_is_higher_than_by_chance(step, norm, epsilon):
    model, given = step
    cost = cost_of(model, given, made_loss())
    adversary = Adversary(model, AdversarialTerm(epsilon=epsilon, steps=5, norm=norm))
    changed = adversary(given["batches"], cost)
    state = torch.get_rng_state()  # from which its own passes augmented
    points, before = changed["one"][0]["pixels"], pixels().float()
    length = (points - before).flatten(1).norm(p=2 if norm == "l2" else torch.inf, dim=1)
    assert (length <= epsilon + 1e-3).all() and points.min() >= 0 and points.max() <= 255
    assert not points.requires_grad
    costs = []
    for seen in (before, adversary_draw(adversary, given), points):
        torch.set_rng_state(state)
        with torch.no_grad():
            costs.append(cost({"one": [{"pixels": seen}]}).item())
    clean, random, found = costs
    assert found > max(clean, random) + 0.05


def adversary_draw(adversary, given):
    """A random point of the same ball: no step is taken from it."""
    idle = Adversary(adversary.model, adversary.settings.model_copy(update={"steps": 0}))
    return idle(given["batches"], lambda batches: None)["one"][0]["pixels"]


def test_more_steps_find_more(step):
    model, given = step
    model.eval()  # no augmentation, so that the losses can be compared
    cost = cost_of(model, given, made_loss())
    found = []
    for steps in (1, 10):
        torch.manual_seed(0)
        adversary = Adversary(model, AdversarialTerm(epsilon=4, steps=steps))
        found.append(cost(adversary(given["batches"], cost)).item())
    assert found[1] > found[0]


def test_it_leaves_statistics_gradients_and_batches_as_they_were(step):
    model, given = step
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cost = cost_of(model, given, made_loss())
    Adversary(model, AdversarialTerm(epsilon=4, steps=3))(given["batches"], cost)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(given["batches"]["one"][0]["pixels"], pixels())


def test_a_step_learns_from_the_changed_pictures_as_it_sees_them(step):
    """The passes of the adversary and the step draw the same augmentation."""
    model, given = step
    seen = []
    encoder = model.tower("one").encoder
    encoder.network.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    objective = Objective(
        model, made_loss(), Adversary(model, AdversarialTerm(epsilon=1e-6, steps=2))
    ).train()
    objective(**given)["loss"].backward()
    assert len(seen) == 3
    for other in seen[:2]:
        torch.testing.assert_close(other, seen[2], atol=1e-4, rtol=0)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_in_evaluation_nothing_is_changed(step):
    model, given = step
    settings = AdversarialTerm(epsilon=8, steps=2)
    plain = Objective(model, made_loss()).eval()
    robust = Objective(model, made_loss(), Adversary(model, settings)).eval()
    assert torch.equal(plain(**given)["loss"], robust(**given)["loss"])
    robust.train()
    plain.eval()
    assert robust(**given)["loss"] > plain(**given)["loss"]


def test_a_memory_keeps_the_step_alone(step):
    model, given = step
    loss = made_loss("memory", loss={"name": "supcon"}, size=100, start=0)
    objective = Objective(model, loss, Adversary(model, AdversarialTerm(epsilon=4, steps=3)))
    objective.train()(**given)
    (memory,) = loss.losses
    assert memory.rows == 12 and memory.training


def test_only_continuous_towers_are_changed():
    model = model_of({"text": LSTM, "image": CNN}, {"caption": "text", "image": "image"})
    batches = {
        "text": [model.tower("text").encoder.collate([np.array([2, 3])] * 12)],
        "image": [{"pixels": pixels()}],
    }

    def cost(given):
        vectors = {name: model.tower(name)(given[name][0]) for name in given}
        return (vectors["text"] * vectors["image"]).sum()

    changed = Adversary(model, AdversarialTerm(epsilon=4, steps=1))(batches, cost)
    assert changed["text"] is batches["text"]
    assert not torch.equal(changed["image"][0]["pixels"], pixels().float())


def test_what_cannot_be_had_is_refused():
    asked = {"adversarial": AdversarialTerm(epsilon=4)}
    pictures = msiam.Model({"one": CNN}, {"image": "one"})
    check_adversary(pictures, Train(**asked))
    with pytest.raises(RecipeError, match=r"^train\.adversarial: found with train\.chunk 8"):
        check_adversary(pictures, Train(**asked, chunk=8))
    words = msiam.Model({"text": LSTM}, {"a": "text", "b": "text"})
    check_adversary(words, Train())
    with pytest.raises(RecipeError, match=r"^train\.adversarial: tower text: encoder lstm has no"):
        check_adversary(words, Train(**asked))


def test_a_recipe_trains_with_it_and_says_so(tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = [
        {"image": rng.integers(0, 256, (32, 32), dtype=np.uint8), "kind": f"k{n // 4}"}
        for n in range(48)
    ]
    from PIL import Image

    for number, row in enumerate(rows):
        Image.fromarray(row["image"]).save(tmp_path / f"{number}.png")
        row["image"] = str(tmp_path / f"{number}.png")
    model = msiam.Model({"one": CNN}, {"image": "one"})
    settings = {"max_steps": 2, "batch_size": 16, "sampler": "classes", "evaluations": 1}
    run = msiam.train(
        model,
        rows,
        classes="kind",
        folder=tmp_path / "run",
        adversarial={"epsilon": 4, "steps": 2},
        **settings,
    )
    assert "adversarial: {epsilon: 4.0, steps: 2, norm: linf}" in run.folder.recipe.read_text()
    assert np.isfinite(run.metrics["retrieval"]["map"])
