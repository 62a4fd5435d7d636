"""The rows of benchmarks/losses.py: what is measured against what, and how it must come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

#: A loss of the embeddings (of one column or two, (B, D) each) and their classes, (B,).
Cost = Callable[..., Tensor]


@dataclass(frozen=True)
class Row:
    """A loss of ours and one of theirs, on the same tensors.

    Attributes:
        name: what the command line calls it.
        title: the table's first column.
        columns, batch, width: how many matrices of what shape.
        items: of each class.
        build: "ours" or "theirs" to the loss; imports a peer only when it is asked for.
        time, memory: what ours over theirs may be at most.
        gigabytes: what ours may take.
        peer: the package of theirs; None where it is written out in dense.py.
        alone: there is no peer that could do it.
    """

    name: str
    title: str
    build: Callable[[str], Cost]
    columns: int
    batch: int
    width: int
    items: int = 1
    time: float | None = None
    memory: float | None = None
    gigabytes: float | None = None
    peer: str | None = None
    alone: bool = False

    def step(self, side: str, batch: int) -> Callable[[], Sequence[Tensor]]:
        """Inputs for one side; what is returned goes forward and backward, and gives gradients."""
        torch.manual_seed(0)
        leaves = [torch.randn(batch, self.width) for _ in range(self.columns)]
        for other in leaves[1:]:  # partners are nearer than others, as after some training
            other.add_(leaves[0], alpha=0.3)
        for leaf in leaves:
            leaf.div_(leaf.norm(dim=1, keepdim=True)).requires_grad_()
        classes = torch.arange(batch) // self.items
        cost = self.build(side)

        def step() -> Sequence[Tensor]:
            for leaf in leaves:
                leaf.grad = None
            cost(*leaves, classes).backward()
            return [leaf.grad for leaf in leaves if leaf.grad is not None]

        return step


def ours(name: str, **options: Any) -> Cost:
    """A loss as a recipe names it."""
    from msiam.losses.base import Targets
    from msiam.registry import registry
    from msiam.registry.options import parse_options

    cls = registry().find("loss", name).load()
    loss = cls(parse_options(cls, options, name))

    def cost(*given: Tensor) -> Tensor:
        *columns, classes = given
        names = "ab"[: len(columns)]
        targets = Targets(dict.fromkeys(names, classes))
        return loss(dict(zip(names, columns, strict=True)), targets)

    return cost


def twice(cost: Cost) -> Cost:
    return lambda *given: 2 * cost(*given)


def unit(cost: Cost) -> Cost:
    """With a norm in front, as theirs has one inside."""
    return lambda *given: cost(*(normalize(x, dim=1) for x in given[:-1]), given[-1])


# ---- Theirs


def pml_ntxent() -> Cost:
    from pytorch_metric_learning.losses import NTXentLoss

    loss = NTXentLoss(temperature=0.07)
    return lambda a, b, classes: loss(torch.cat([a, b]), torch.cat([classes, classes]))


def pml_triplet(semi_hard: bool) -> Cost:
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    loss = TripletMarginLoss(margin=0.2)
    miner = TripletMarginMiner(margin=0.2, type_of_triplets="semihard")
    if semi_hard:
        return lambda x, classes: loss(x, classes, miner(x, classes))
    return loss


def pml_batch_hard() -> Cost:
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner

    loss, miner = TripletMarginLoss(margin=0.2), BatchHardMiner()
    return lambda x, classes: loss(x, classes, miner(x, classes))


def pml_contrastive() -> Cost:
    """With the paper's squares, which theirs leaves out."""
    from pytorch_metric_learning.losses import ContrastiveLoss
    from pytorch_metric_learning.reducers import MeanReducer

    class Squared(ContrastiveLoss):
        def get_per_pair_loss(self, *given: Any) -> Tensor:
            return super().get_per_pair_loss(*given).square()

    return Squared(reducer=MeanReducer())


def clip() -> Cost:
    from open_clip.loss import ClipLoss

    loss, log_scale = ClipLoss(), torch.tensor(1 / 0.07).log().requires_grad_()
    return lambda a, b, _: loss(a, b, log_scale.exp())


def siglip() -> Cost:
    from open_clip.loss import SigLipLoss

    loss, log_scale = SigLipLoss(), torch.tensor(10.0).log().requires_grad_()
    bias = torch.tensor(-10.0, requires_grad=True)
    return lambda a, b, _: loss(a, b, log_scale.exp(), bias)


def plain(name: str, *given: Any) -> Cost:
    """One of dense.py, with what it takes after the groups."""
    import dense

    function = getattr(dense, name)
    return lambda *inputs: function(*inputs, *given)


def plain_two(name: str, scale: float, *starts: float) -> Cost:
    """One of dense.py for two columns, with a learnt scale and further learnt numbers."""
    import dense

    function = getattr(dense, name)
    log_scale, *learnt = (torch.tensor(x, requires_grad=True) for x in (math.log(scale), *starts))
    return lambda a, b, classes: function(a, b, classes, classes, log_scale.exp(), *learnt)


# ---- The table

PML: dict[str, Any] = {"peer": "pytorch_metric_learning", "width": 256}
EIGHT: dict[str, Any] = {**PML, "columns": 1, "items": 8}
OPEN_CLIP: dict[str, Any] = {"peer": "open_clip", "width": 512, "columns": 2, "batch": 8192}
SMALL: dict[str, Any] = {"width": 256, "batch": 128, "time": 1.0}
TRIPLET: dict[str, Any] = {"distance": "euclidean", "margin": 0.2, "average": "nonzero"}
ALL, SEMI_HARD = {"name": "all"}, {"name": "all", "negatives": "semi_hard"}


def compared(
    name: str, title: str, theirs: Callable[[], Cost], mine: Callable[[], Cost], **rest: Any
) -> Row:
    return Row(name, title, lambda side: mine() if side == "ours" else theirs(), **rest)


def small(name: str, theirs: Callable[[], Cost], mine: Callable[[], Cost], columns: int) -> Row:
    """A small batch beside the loss's plain form."""
    title = f"{name.replace('_', ' ')}, plain and dense"
    items = 8 if columns == 1 else 1
    return compared(f"small_{name}", title, theirs, mine, columns=columns, items=items, **SMALL)


ROWS = {
    row.name: row
    for row in (
        compared(
            "ntxent",
            "PML NTXentLoss, two views",
            pml_ntxent,
            lambda: unit(ours("infonce", pool=True, learn_temperature=False)),
            **PML,
            columns=2,
            batch=512,
            time=1 / 100,
            memory=1 / 50,
        ),
        compared(
            "triplet_all",
            "PML TripletMarginLoss, all triplets",
            lambda: pml_triplet(semi_hard=False),
            lambda: unit(ours("triplet", miner=ALL, **TRIPLET)),
            **EIGHT,
            batch=1024,
            time=1 / 8,
            memory=1 / 20,
        ),
        compared(
            "triplet_semi_hard",
            "PML TripletMarginLoss, semi-hard triplets",
            lambda: pml_triplet(semi_hard=True),
            lambda: unit(ours("triplet", miner=SEMI_HARD, **TRIPLET)),
            **EIGHT,
            batch=1024,
            time=1 / 8,
            memory=1 / 20,
        ),
        compared(
            "batch_hard",
            "PML batch-hard miner + triplet",
            pml_batch_hard,
            lambda: unit(ours("triplet", miner="hard", **TRIPLET)),
            **EIGHT,
            batch=4096,
            time=1 / 4,
            memory=1 / 8,
        ),
        compared(
            "contrastive",
            "PML ContrastiveLoss, all pairs",
            pml_contrastive,
            lambda: unit(twice(ours("batch_contrastive", halves=False))),
            **EIGHT,
            batch=4096,
            time=1 / 3,
            memory=1 / 6,
        ),
        compared(
            "clip",
            "open_clip ClipLoss",
            clip,
            lambda: ours("infonce"),
            **OPEN_CLIP,
            time=0.7,
            memory=1 / 20,
        ),
        compared(
            "siglip",
            "open_clip SigLipLoss",
            siglip,
            lambda: ours("sigmoid"),
            **OPEN_CLIP,
            time=0.75,
            memory=1 / 15,
        ),
        Row(
            "infonce_large",
            "InfoNCE, a large batch",
            lambda side: ours("infonce"),
            columns=2,
            batch=65536,
            width=256,
            gigabytes=0.5,
            alone=True,
        ),
        small("infonce", lambda: plain_two("infonce", 1 / 0.07), lambda: ours("infonce"), 2),
        small(
            "ntxent",
            lambda: plain_two("ntxent", 1 / 0.07),
            lambda: ours("infonce", pool=True),
            2,
        ),
        small("sigmoid", lambda: plain_two("sigmoid", 10.0, -10.0), lambda: ours("sigmoid"), 2),
        small("supcon", lambda: plain("supcon", 0.1), lambda: ours("supcon"), 1),
        small(
            "multi_similarity",
            lambda: plain("multi_similarity", 2.0, 50.0, 0.5),
            lambda: ours("multi_similarity"),
            1,
        ),
        small("circle", lambda: plain("circle", 0.4, 80.0), lambda: ours("circle"), 1),
        small(
            "batch_contrastive",
            lambda: plain("contrastive", 1.0),
            lambda: ours("batch_contrastive"),
            1,
        ),
        small(
            "batch_hard",
            lambda: plain("batch_hard", 0.2),
            lambda: ours("triplet", distance="euclidean"),
            1,
        ),
        small(
            "triplet_all",
            lambda: plain("triplets", 0.2, False),
            lambda: ours("triplet", miner=ALL, **TRIPLET),
            1,
        ),
        small(
            "triplet_semi_hard",
            lambda: plain("triplets", 0.2, True),
            lambda: ours("triplet", miner=SEMI_HARD, **TRIPLET),
            1,
        ),
    )
}
