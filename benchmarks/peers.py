"""What people use instead: the losses of other packages, each imported only when asked for."""

from __future__ import annotations

from typing import Any

import torch
from row import Cost
from torch import Tensor


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
