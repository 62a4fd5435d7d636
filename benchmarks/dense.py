"""The losses as one would write them down: with the whole matrix at hand, and autograd's gradient.

What a batch of 128 is measured against. Each takes embeddings and groups, (B, D) and (B,) of two
columns, or of one where a loss is for one, and is the same function as msiam's with the options
that benchmarks/losses.py names.
"""

from __future__ import annotations

import math

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


def infonce_first(a: Tensor, b: Tensor, ga: Tensor, gb: Tensor, scale: Tensor) -> Tensor:
    s = (scale * a @ b.T).masked_fill(known(ga, gb), -torch.inf)
    return nn.functional.cross_entropy(s, torch.arange(len(a)))


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


# ---- Two columns


def supcon_two(a: Tensor, b: Tensor, groups: Tensor, temperature: float) -> Tensor:
    s, positive = a @ b.T / temperature, (groups[:, None] == groups).float()
    first = ((s.logsumexp(dim=1, keepdim=True) - s) * positive).sum(1) / positive.sum(1)
    other = ((s.logsumexp(dim=0, keepdim=True) - s) * positive).sum(0) / positive.sum(0)
    return (first.mean() + other.mean()) / 2


def multi_similarity_two(
    a: Tensor, b: Tensor, groups: Tensor, alpha: float, beta: float, base: float
) -> Tensor:
    s, positive = a @ b.T - base, groups[:, None] == groups
    pull = (-alpha * s).masked_fill(~positive, -torch.inf)
    push = (beta * s).masked_fill(positive, -torch.inf)
    costs = [
        softplus(pull.logsumexp(dim=d)) / alpha + softplus(push.logsumexp(dim=d)) / beta
        for d in (1, 0)
    ]
    return torch.stack(costs).mean()


def circle_two(a: Tensor, b: Tensor, groups: Tensor, margin: float, scale: float) -> Tensor:
    s, positive = a @ b.T, groups[:, None] == groups
    far, near = (1 + margin - s).detach().relu(), (s + margin).detach().relu()
    pull = (-scale * far * (s - 1 + margin)).masked_fill(~positive, -torch.inf)
    push = (scale * near * (s - margin)).masked_fill(positive, -torch.inf)
    costs = [softplus(pull.logsumexp(dim=d) + push.logsumexp(dim=d)) for d in (1, 0)]
    return torch.stack(costs).mean()


def contrastive_two(a: Tensor, b: Tensor, groups: Tensor, margin: float) -> Tensor:
    d, positive = torch.cdist(a, b), groups[:, None] == groups
    return (d.pow(2)[positive].mean() + (margin - d).relu().pow(2)[~positive].mean()) / 4


def triplet_two(a: Tensor, b: Tensor, groups: Tensor, margin: float, semi_hard: bool) -> Tensor:
    """A row's pair and its nearest negative, or the nearest that is farther than the pair."""
    d, known = torch.cdist(a, b).pow(2), groups[:, None] == groups
    near = d.diagonal()
    far = d.masked_fill(known, torch.inf)
    if semi_hard:
        beyond = far.masked_fill(far <= near[:, None], torch.inf).amin(dim=1)
        most = d.masked_fill(known, -torch.inf).amax(dim=1)
        hardest = beyond.where(beyond < torch.inf, most)
    else:
        hardest = far.amin(dim=1)
    return (near - hardest + margin).relu().mean()


# ---- Rows that meet no others


def contrastive_rows(a: Tensor, b: Tensor, same: Tensor, margin: float) -> Tensor:
    d = (a - b).norm(dim=1)
    return torch.where(same, d.pow(2), (margin - d).relu().pow(2)).mean() / 2


def online_contrastive(a: Tensor, b: Tensor, same: Tensor, margin: float) -> Tensor:
    d = 1 - nn.functional.cosine_similarity(a, b)
    together, differ = d[same], d[~same]
    pull, push = together[together > differ.min()], differ[differ < together.max()]
    total = pull.pow(2).sum() + (margin - push).relu().pow(2).sum()
    return total / max(len(pull) + len(push), 1)


def cosine_embedding(a: Tensor, b: Tensor, same: Tensor, margin: float) -> Tensor:
    return nn.functional.cosine_embedding_loss(a, b, 2.0 * same - 1, margin=margin)


def cosent(a: Tensor, b: Tensor, scores: Tensor, scale: float) -> Tensor:
    s = scale * (a * b).sum(dim=1)
    apart = (s[None] - s[:, None]).masked_fill(scores[:, None] <= scores, -torch.inf)
    return torch.cat([s.new_zeros(1), apart.flatten()]).logsumexp(0)


def margin_mse(a: Tensor, p: Tensor, n: Tensor, apart: Tensor, scores: Tensor) -> Tensor:
    """Rows are ``apart`` whose negative is not of the anchor's group."""
    error = (a * p).sum(dim=1) - (a * n).sum(dim=1) - scores
    return (error.pow(2) * apart).sum() / apart.sum()


def similarity_mse(a: Tensor, b: Tensor, scores: Tensor) -> Tensor:
    return nn.functional.mse_loss((a * b).sum(dim=1), scores)


def triplet(a: Tensor, p: Tensor, n: Tensor, apart: Tensor, margin: float) -> Tensor:
    cost = ((a - p).pow(2).sum(dim=1) - (a - n).pow(2).sum(dim=1) + margin).relu()
    return cost[apart].mean()


def quadruplet(
    a: Tensor, p: Tensor, n: Tensor, o: Tensor, kept: list[Tensor], margins: tuple[float, float]
) -> Tensor:
    near = (a - p).pow(2).sum(dim=1)
    first = near - (a - n).pow(2).sum(dim=1) + margins[0]
    second = near - (n - o).pow(2).sum(dim=1) + margins[1]
    return first.relu()[kept[0]].mean() + second.relu()[kept[1]].mean()


def tuples(a: Tensor, p: Tensor, n: Tensor, known: Tensor, temperature: float) -> Tensor:
    own = (a * p).sum(dim=1)
    other = (a * n).sum(dim=1).masked_fill(known, -torch.inf)
    s = torch.stack([own, other], dim=1) / temperature
    return nn.functional.cross_entropy(s, torch.zeros(len(a), dtype=torch.long))


def tuples_in_batch(a: Tensor, p: Tensor, n: Tensor, known: Tensor, temperature: float) -> Tensor:
    s = (a @ torch.cat([p, n]).T / temperature).masked_fill(known, -torch.inf)
    return nn.functional.cross_entropy(s, torch.arange(len(a)))


# ---- Learnt vectors of classes


def arcface(x: Tensor, classes: Tensor, weights: Tensor, scale: float, margin: float) -> Tensor:
    cosine = nn.functional.normalize(x, dim=1) @ nn.functional.normalize(weights, dim=1).T
    own = cosine.gather(1, classes[:, None])
    angle = torch.acos(own.clamp(-1 + 1e-7, 1 - 1e-7)) + margin
    own = torch.where(angle < torch.pi, torch.cos(angle), own - margin * math.sin(margin))
    return nn.functional.cross_entropy(scale * cosine.scatter(1, classes[:, None], own), classes)


def proxy_anchor(
    x: Tensor, classes: Tensor, weights: Tensor, scale: float, margin: float
) -> Tensor:
    cosine = nn.functional.normalize(x, dim=1) @ nn.functional.normalize(weights, dim=1).T
    own = nn.functional.one_hot(classes, len(weights)).bool()
    pull = (-scale * (cosine - margin)).masked_fill(~own, -torch.inf).logsumexp(dim=0)
    push = (scale * (cosine + margin)).masked_fill(own, -torch.inf).logsumexp(dim=0)
    return softplus(pull[own.any(dim=0)]).mean() + softplus(push).mean()
