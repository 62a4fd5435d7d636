"""The losses as one would write them down: with the whole matrix at hand, and autograd's gradient.

What a batch of 128 is measured against. Each takes embeddings and groups, (B, D) and (B,) of two
columns, or of one where a loss is for one, and is the same function as msiam's with the options
that benchmarks/losses.py names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus


def known(ga: Tensor, gb: Tensor) -> Tensor:
    """(B, B) booleans: pairs of one group, but for those of a row."""
    return (ga[:, None] == gb).fill_diagonal_(False)


def infonce(a: Tensor, b: Tensor, ga: Tensor, gb: Tensor, scale: Tensor) -> Tensor:
    s = (scale * a @ b.T).masked_fill(known(ga, gb), -torch.inf)
    own = torch.arange(len(a))
    return (nn.functional.cross_entropy(s, own) + nn.functional.cross_entropy(s.T, own)) / 2


def ntxent(a: Tensor, b: Tensor, ga: Tensor, gb: Tensor, scale: Tensor) -> Tensor:
    items, others, groups = torch.cat([a, b]), torch.cat([b, a]), torch.cat([ga, gb])
    s = scale * items @ others.T
    s = s.masked_fill(known(groups, torch.cat([gb, ga])), -torch.inf)
    return nn.functional.cross_entropy(s, torch.arange(len(s)))


def sigmoid(a: Tensor, b: Tensor, ga: Tensor, gb: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    s = scale * a @ b.T + bias
    z = 2 * torch.eye(len(a)) - 1
    return -logsigmoid(z * s).masked_fill(known(ga, gb), 0).sum() / len(a)


def supcon(x: Tensor, groups: Tensor, temperature: float) -> Tensor:
    s, own = x @ x.T / temperature, torch.eye(len(x), dtype=torch.bool)
    positive = (groups[:, None] == groups) & ~own
    log_p = s - s.masked_fill(own, -torch.inf).logsumexp(dim=1, keepdim=True)
    count = positive.sum(dim=1)
    cost = -(log_p * positive).sum(dim=1) / count.clamp(min=1)
    return cost.sum() / (count > 0).sum().clamp(min=1)


def multi_similarity(x: Tensor, groups: Tensor, alpha: float, beta: float, base: float) -> Tensor:
    s, own = x @ x.T - base, torch.eye(len(x), dtype=torch.bool)
    positive = groups[:, None] == groups
    pull = (-alpha * s).masked_fill(~positive | own, -torch.inf).logsumexp(dim=1)
    push = (beta * s).masked_fill(positive, -torch.inf).logsumexp(dim=1)
    return (softplus(pull) / alpha + softplus(push) / beta).mean()


def circle(x: Tensor, groups: Tensor, margin: float, scale: float) -> Tensor:
    s, own = x @ x.T, torch.eye(len(x), dtype=torch.bool)
    positive = groups[:, None] == groups
    far, near = (1 + margin - s).detach().relu(), (s + margin).detach().relu()
    pull = (-scale * far * (s - 1 + margin)).masked_fill(~positive | own, -torch.inf)
    push = (scale * near * (s - margin)).masked_fill(positive, -torch.inf)
    cost = softplus(pull.logsumexp(dim=1) + push.logsumexp(dim=1))
    return cost.sum() / (positive.sum(dim=1) > 1).sum().clamp(min=1)


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x, x)


def batch_hard(x: Tensor, groups: Tensor, margin: float) -> Tensor:
    d, positive = distances(x), groups[:, None] == groups
    far = d.masked_fill(~positive, -torch.inf).amax(dim=1)
    near = d.masked_fill(positive, torch.inf).amin(dim=1)
    there = (positive.sum(dim=1) > 1) & ~positive.all(dim=1)
    return (far - near + margin).relu()[there].sum() / there.sum().clamp(min=1)


def triplets(x: Tensor, groups: Tensor, margin: float, semi_hard: bool) -> Tensor:
    """All triplets, or those whose negative is farther by less than the margin."""
    d, positive = distances(x), groups[:, None] == groups
    cost = d[:, :, None] - d[:, None] + margin
    taken = (positive.clone().fill_diagonal_(False))[:, :, None] & ~positive[:, None] & (cost > 0)
    if semi_hard:
        taken &= cost < margin
    return cost[taken].mean()


def contrastive(x: Tensor, groups: Tensor, margin: float) -> Tensor:
    d, positive = distances(x), groups[:, None] == groups
    own = torch.eye(len(x), dtype=torch.bool)
    pull = d.pow(2)[positive & ~own].mean()
    return (pull + (margin - d).relu().pow(2)[~positive].mean()) / 4
