"""A good loss passes, and each way to break the contract is noticed."""

from __future__ import annotations

import re

import pydantic
import pytest
import torch

from msiam.losses.base import Loss
from msiam.losses.contrastive import Contrastive
from msiam.losses.infonce import InfoNCE
from msiam.losses.triplet import Triplet
from msiam.registry.conformance import check_loss
from msiam.registry.options import Options


class Good(Loss):
    """The mean squared distance of the rows that are positive."""

    def forward(self, embeddings, targets):
        one, other = embeddings.values()
        return self.mean((one - other).pow(2).sum(1), targets.positive(len(one), one.device))

    def mean(self, cost, kept):
        return (cost * kept).sum() / kept.sum().clamp(min=1)


@pytest.mark.parametrize("cls", [Good, Contrastive, InfoNCE, Triplet])
def test_good_losses_pass(cls):
    check_loss(cls)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Contrastive, {"margin": 0.3, "halves": False}),
        (InfoNCE, {"temperature": 0.01}),
        (InfoNCE, {"learn_temperature": False, "temperature": 5.0}),
        (Triplet, {"distance": "euclidean", "margin": 0.5}),
    ],
)
def test_good_losses_pass_with_options(cls, options):
    check_loss(cls, options)


class NoLoss(torch.nn.Module):
    pass


class WeightOptions(Options):
    weight: float = 1.0


class TakesTheRecipes(Good):
    Options = WeightOptions


class AnyOptions(Options):
    model_config = pydantic.ConfigDict(extra="ignore")


class TakesAnything(Good):
    Options = AnyOptions


class NoColumns(Good):
    columns = ()


class Rows(Good):
    def mean(self, cost, kept):
        return cost * kept


class Number(Good):
    def mean(self, cost, kept):
        return super().mean(cost, kept).item()


class NothingOfNothing(Good):
    """The mean of no rows."""

    def mean(self, cost, kept):
        return cost[kept].mean()


class OneSided(Good):
    def forward(self, embeddings, targets):
        one, other = embeddings.values()
        return super().forward({"a": one, "b": other.detach()}, targets)


class Detached(Good):
    def mean(self, cost, kept):
        return super().mean(cost, kept).detach()


class Root(Good):
    """The root has no slope at zero."""

    def mean(self, cost, kept):
        return super().mean(cost.sqrt(), kept)


class Ordered(Good):
    def mean(self, cost, kept):
        return super().mean(cost * torch.arange(len(cost)), kept)


class Random(Good):
    def mean(self, cost, kept):
        return super().mean(cost * torch.rand(len(cost)), kept)


class Destroys(Good):
    def forward(self, embeddings, targets):
        one, _ = embeddings.values()
        with torch.no_grad():
            one.mul_(0.9)
        return super().forward(embeddings, targets)


class OnlyFloat32(Good):
    def mean(self, cost, kept):
        return super().mean(cost @ torch.eye(len(cost)), kept)


class CoarseInBf16(Good):
    def mean(self, cost, kept):
        return super().mean(cost * (1.5 if cost.dtype == torch.bfloat16 else 1), kept)


class OnlyContiguous(Good):
    def forward(self, embeddings, targets):
        one, other = (e.view(-1).view(len(e), -1) for e in embeddings.values())
        return super().forward({"a": one, "b": other}, targets)


class Secret(Good):
    """Remembers the last cost where no checkpoint sees it."""

    def __init__(self, options):
        super().__init__(options)
        self.last = 0.0

    def mean(self, cost, kept):
        value = super().mean(cost, kept)
        before, self.last = self.last, value.detach()
        return value + before


class Open(Secret):
    def __init__(self, options):
        Loss.__init__(self, options)
        self.register_buffer("last", torch.zeros(()))


class DeafToAnchors(Good):
    def in_batch(self, columns):
        return True


class Alone(Good):
    """Divides by the positive rows, of which each process has others."""

    gathers = False


class Classes(Good):
    """A length of each class, that its items should have."""

    columns = (1,)
    needs = ("classes",)

    def begin(self, groups, dim):
        self.register_buffer("known", groups)
        self.lengths = torch.nn.Parameter(torch.rand(len(groups)))

    def forward(self, embeddings, targets):
        ((name, items),) = embeddings.items()
        groups = targets.groups[name]
        place = torch.searchsorted(self.known, groups).clamp(max=len(self.known) - 1)
        cost = (items.sum(1) - self.lengths[place]).pow(2)
        return self.mean(cost, self.known[place] == groups)


class KnowsAllClasses(Classes):
    def mean(self, cost, kept):
        return cost[kept].mean()


class Scores(Good):
    needs = ("scores",)

    def forward(self, embeddings, targets):
        one, other = embeddings.values()
        return ((one * other).sum(1) - targets.scores).pow(2).mean()


class Relative(Scores):
    """Divides by how much the scores differ."""

    def forward(self, embeddings, targets):
        return super().forward(embeddings, targets) / targets.scores.std(correction=0)


@pytest.mark.parametrize("cls", [Classes, Scores])
def test_what_a_loss_needs_it_is_given(cls):
    check_loss(cls)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (NoLoss, "must be a subclass of msiam.Loss"),
        (TakesTheRecipes, "options ['weight'] can never be set"),
        (TakesAnything, "an unknown option is accepted"),
        (NoColumns, "columns must say how many: ()"),
        (Rows, "the loss is no scalar"),
        (Number, "the loss is no scalar"),
        (NothingOfNothing, "the loss: NaN or infinite"),
        (OneSided, "no gradient reaches column 'two'"),
        (Detached, "the loss has no gradient"),
        (Root, "the gradient of 'one': NaN or infinite"),
        (Ordered, "the same rows in another order: they differ by"),
        (Random, "the same batch twice: they differ by"),
        (Destroys, "the loss changes the embeddings of 'one'"),
        (CoarseInBf16, "the value in bf16, and in float32: they differ by"),
        (Secret, "state is missing from state_dict()"),
        (Alone, "gathers is False, and the mean over parts of a batch is another"),
        (KnowsAllClasses, "the loss: NaN or infinite"),
        (Relative, "the loss: NaN or infinite"),
        (DeafToAnchors, r"where no row is an anchor; it must be 0"),
    ],
)
def test_what_breaks_the_contract_is_noticed(cls, said):
    with pytest.raises(AssertionError, match=re.escape(said)):
        check_loss(cls)


@pytest.mark.parametrize("cls", [OnlyFloat32, OnlyContiguous])
def test_what_fails_by_itself_is_seen_as_it_is(cls):
    with pytest.raises(RuntimeError):
        check_loss(cls)


def test_state_in_a_buffer_is_no_secret():
    check_loss(Open)
