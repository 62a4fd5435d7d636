from __future__ import annotations

import pytest
import torch

from msiam.errors import RecipeError
from msiam.losses.base import Given, Loss, Targets, WeightedSum
from msiam.losses.contrastive import Contrastive
from msiam.losses.infonce import InfoNCE
from msiam.losses.triplet import Triplet
from msiam.registry import registry


class Sum(Loss):
    columns = (3, 4)
    more = True

    def forward(self, embeddings, targets):
        return torch.stack(list(embeddings.values())).sum()


def test_without_labels_every_row_is_a_positive():
    assert Targets({}).positive(3, torch.device("cpu")).tolist() == [True] * 3


def test_labels_say_which_rows_are_positive():
    same = torch.tensor([True, False])
    assert Targets({}, same).positive(2, torch.device("cpu")).tolist() == [True, False]


@pytest.mark.parametrize(
    ("cls", "columns", "targets", "said"),
    [
        (Contrastive, ["a", "b", "c"], {"labels"}, "x takes 2 columns; the recipe has 3 (a, b, c)"),
        (InfoNCE, ["a"], {}, "x takes 2 columns; the recipe has 1 (a)"),
        (
            Triplet,
            list("abcd"),
            {},
            "x takes 1 or 2 or 3 columns; the recipe has 4 (a, b, c, d)",
        ),
        (Sum, ["a", "b"], {}, "x takes 3 or 4 or more columns; the recipe has 2 (a, b)"),
        (Triplet, list("abc"), {"classes"}, "x takes what follows the second column for negatives"),
        (
            Contrastive,
            ["a", "b"],
            {"scores"},
            "x learns from labelled pairs; add 'label: {column: ",
        ),
    ],
)
def test_a_loss_that_does_not_fit_its_columns_or_labels(make, cls, columns, targets, said):
    with pytest.raises(RecipeError) as raised:
        make(cls).check("x", Given(columns, targets, dim=8))
    assert str(raised.value).startswith(f"loss.name: {said}")


@pytest.mark.parametrize(
    ("cls", "count", "targets"),
    [(Contrastive, 2, {"labels"}), (InfoNCE, 2, {}), (InfoNCE, 2, {"labels"}), (Triplet, 3, {})]
    + [(Sum, count, {}) for count in (3, 4, 5, 9)],
)
def test_a_loss_that_fits(make, cls, count, targets):
    make(cls).check("x", Given(list("abcdefghi")[:count], targets, dim=8))


def test_several_losses_are_added_with_their_weights():
    both = WeightedSum([Sum(None), Sum(None)], [1.0, 0.5])
    value = both({"a": torch.tensor([1.0]), "b": torch.tensor([3.0])}, Targets({}))
    assert value.item() == pytest.approx(6.0)


def test_the_state_of_each_loss_is_in_the_sum(make):
    both = WeightedSum([make(InfoNCE), make(InfoNCE)], [1.0, 1.0])
    assert set(both.state_dict()) == {"losses.0.log_scale", "losses.1.log_scale"}


@pytest.mark.parametrize(
    ("name", "columns", "kind"),
    [
        (spec.name, "abcd"[:count], kind)
        for spec in registry().specs("loss")
        for count in spec.load().columns
        for kind in spec.load().needs or ("", "labels")
    ],
)
def test_no_rows_cost_nothing(make, value_and_gradients, name, columns, kind):
    loss = make(registry().find("loss", name).load())
    dim = 22 * 22 if name == "score_map" else 8  # it takes embeddings that are maps
    loss.begin(torch.arange(3), dim)
    none = torch.zeros(0, dtype=torch.long)
    known = {"labels": {"same": none.bool()}, "scores": {"scores": none.double()}}
    targets = Targets(dict.fromkeys(columns, none), **known.get(kind, {}))
    value, gradients = value_and_gradients(
        lambda *vectors: loss(dict(zip(columns, vectors, strict=True)), targets),
        *[torch.zeros(0, dim)] * len(columns),
    )
    assert value == 0
    assert [gradient.shape for gradient in gradients] == [(0, dim)] * len(columns)
