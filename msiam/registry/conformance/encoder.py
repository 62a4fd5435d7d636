"""The tests that every encoder must pass."""

from __future__ import annotations

import codecs
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msiam.registry.conformance.common import (
    check_options,
    require,
    require_close,
    require_finite,
    seeded,
)
from msiam.towers.encoder import Encoder, Rejected
from msiam.towers.tower import TowerOptions

#: None of these may make ``prepare`` raise, whatever the modality.
ODD_ITEMS: tuple[Any, ...] = (None, 3.5, object(), "", "\ud800", "no-such-file.png", b"\0", [], {})


def check_encoder(cls: type[Encoder], options: Mapping[str, Any], items: Sequence[Any]) -> None:
    """Fit, prepare, embed, train, save and restore; see the contract of ``Encoder``.

    Args:
        options: as a recipe gives them, without the keys of the tower.
        items: some that the encoder can read, at least 3 and all different; if they may differ in
            length or size, they should.

    Raises:
        AssertionError: the encoder breaks the contract; the message says which part of it.
        MsiamError: it cannot be made here (an option is missing, weights are not there).
    """
    require(len(items) >= 3, "give at least 3 items")
    require(issubclass(cls, Encoder), "must be a subclass of msiam.Encoder")
    require(isinstance(getattr(cls, "modality", None), str), "modality must be named")
    parsed = check_options(cls, options, TowerOptions.model_fields)
    encoder = _fitted(cls, parsed, items)
    width = encoder.dim
    require(isinstance(width, int) and width > 0, f"dim is {width!r} after fit, not a width")
    features = _check_prepare(encoder, items)
    _check_odd_items(encoder, items, features)
    _check_forward(encoder, features)
    _check_layers(encoder, features)
    _check_continuous(encoder, features)
    _check_fingerprint(encoder)
    _check_restored(cls, parsed, encoder, items)
    _check_learnt(cls, parsed, encoder, items)
    _check_training(encoder, features)


def _fitted(cls: type[Encoder], options: Any, items: Sequence[Any]) -> Encoder:
    with seeded(0):
        encoder = cls(options)
        encoder.fit(items)
    return encoder.eval()


def _check_prepare(encoder: Encoder, items: Sequence[Any]) -> list[np.ndarray]:
    """``prepare`` gives the same features whenever, and together with whatever, it is called."""
    require(all(encoder.accepts(item) is True for item in items), "accepts() is not True of items")
    require(encoder.prepare([]) == [], "prepare of no items is not []")
    before = _randomness()
    features = []
    for number, feature in enumerate(encoder.prepare(items)):
        if not isinstance(feature, np.ndarray) or feature.dtype == object:
            raise AssertionError(f"prepare gives {feature!r:.80} for item {number}, not an array")
        features.append(feature)
    alone = [encoder.prepare([item])[0] for item in items]
    backwards = encoder.prepare(items[::-1])[::-1]
    encoder.train()
    training = encoder.prepare(items)
    encoder.eval()
    require(_randomness() == before, "prepare draws random numbers; augment in forward")
    for what, others in {
        "depends on the items beside it": alone,
        "depends on the order of items": backwards,
        "differs in training; augment in forward": training,
    }.items():
        require(_same(features, others), f"what prepare gives for an item {what}")
    costs = [encoder.cost(feature) for feature in features]
    require(all(isinstance(c, int) and c >= 0 for c in costs), f"cost must be integers: {costs}")
    return features


def _check_odd_items(
    encoder: Encoder, items: Sequence[Any], features: Sequence[np.ndarray]
) -> None:
    """An item that cannot be read is ``Rejected``, with a reason, and the others are not."""
    for odd in ODD_ITEMS:
        try:
            accepted = encoder.accepts(odd)
            first, found, last = encoder.prepare([items[0], odd, items[-1]])
        except Exception as error:
            raise AssertionError(
                f"prepare raises {type(error).__name__} for {odd!r} ({error}); return Rejected"
            ) from error
        require(_same([first, last], [features[0], features[-1]]), f"{odd!r} changes other items")
        if isinstance(found, Rejected):
            right = bool(found.reason.strip()) and "\n" not in found.reason
            require(right, f"the reason to reject {odd!r} is not one line: {found.reason!r}")
        else:
            require(accepted, f"prepare reads {odd!r}, which accepts() refuses")


def _check_forward(encoder: Encoder, features: Sequence[np.ndarray]) -> None:
    """In evaluation, an item's vector does not depend on its batch, and nothing is random."""
    copies = [feature.copy() for feature in features]
    batch = encoder.collate(features)
    tensors = isinstance(batch, dict) and all(isinstance(t, Tensor) for t in batch.values())
    require(tensors, "collate must give a dict of tensors")
    require(all(t.device.type == "cpu" for t in batch.values()), "collate must stay on the CPU")
    vectors = _embed(encoder, features)
    require(_same(features, copies), "collate or forward changes the features it is given")
    shape = (len(features), encoder.dim)
    require(vectors.shape == shape, f"forward gives {tuple(vectors.shape)}, not {shape}")
    require(vectors.is_floating_point(), f"forward gives {vectors.dtype}")
    require_finite(vectors, "forward")
    alone = torch.cat([_embed(encoder, [feature]) for feature in features])
    require_close(alone, vectors, "vectors of items alone, and in a batch")
    backwards = _embed(encoder, features[::-1]).flip(0)
    require_close(backwards, vectors, "vectors of a batch, and of the same one backwards")


def _check_continuous(encoder: Encoder, features: Sequence[np.ndarray]) -> None:
    """What is said to be continuous may be floats within its range, and has a gradient."""
    said = encoder.continuous
    if said is None:
        return
    batch = encoder.collate(features)
    require(said.tensor in batch, f"continuous: collate gives no '{said.tensor}'")
    values = batch[said.tensor].float()
    inside = bool(((values >= said.low) & (values <= said.high)).all())
    require(inside, f"continuous: '{said.tensor}' leaves {said.low:g} to {said.high:g}")
    given = values.clone().requires_grad_(True)
    vectors = encoder({**batch, said.tensor: given})
    require_close(vectors, _embed(encoder, features), "vectors of the batch, and of it as floats")
    require(torch.equal(given, values), "forward changes the floats it is given")
    (gradient,) = torch.autograd.grad(vectors.square().sum(), given, allow_unused=True)
    found = gradient is not None and bool(torch.isfinite(gradient).all()) and bool(gradient.any())
    require(found, f"continuous: forward has no gradient with respect to '{said.tensor}'")


def _check_layers(encoder: Encoder, features: Sequence[np.ndarray]) -> None:
    """Its layers are its own, none inside another, and a forward runs each once and in order."""
    layers = list(encoder.layers())
    place = {module: number for number, module in enumerate(encoder.modules())}
    require(all(layer in place for layer in layers), "layers() has what is no part of the encoder")
    inside = [part for layer in layers for part in layer.modules()]
    require(not any(inside.count(layer) > 1 for layer in layers), "a layer is inside another one")
    registered = [place[layer] for layer in layers]
    require(registered == sorted(registered), "layers() has another order than modules()")
    ran: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(layers)
    ]
    _embed(encoder, features)
    for hook in hooks:
        hook.remove()
    right = ran == list(range(len(layers)))
    require(right, f"forward runs layers {ran}, and not each of {len(layers)} once and in order")


def _check_fingerprint(encoder: Encoder) -> None:
    """It is the same until a weight changes, and again when the weight is put back."""
    before = encoder.fingerprint()
    require(isinstance(before, str) and before != "", f"the fingerprint is {before!r}")
    require(encoder.fingerprint() == before, "the fingerprint changes by itself")
    kinds = [encoder.named_parameters(), encoder.named_buffers()]
    stored = encoder.state_dict()
    for named in kinds:
        tensors = {n: t for n, t in named if n in stored and t.is_floating_point() and t.numel()}
        for name, tensor in list(tensors.items())[:1]:
            place = (0,) * tensor.dim()
            with torch.no_grad():
                value = tensor[place].clone()
                tensor[place] += 1
                changed = encoder.fingerprint()
                tensor[place] = value
            require(changed != before, f"the fingerprint stays the same when {name} changes")
    require(encoder.fingerprint() == before, "the fingerprint depends on more than the weights")


def _check_restored(
    cls: type[Encoder], options: Any, encoder: Encoder, items: Sequence[Any]
) -> None:
    """Saved, moved to another folder and restored, an encoder does just what it did."""
    with tempfile.TemporaryDirectory() as folder:
        first, moved = Path(folder, "first"), Path(folder, "moved")
        first.mkdir()
        encoder.save(first)
        shutil.move(first, moved)
        with seeded(1):
            again = cls(options)
            again.restore(moved)
    try:
        again.load_state_dict(encoder.state_dict())
    except RuntimeError as error:
        raise AssertionError(f"restore builds other weights: {' '.join(str(error).split())}") from (
            error
        )
    again.eval()
    require(again.dim == encoder.dim, f"dim is {again.dim} after restore, not {encoder.dim}")
    for name in ("fingerprint", "features_fingerprint"):
        require(getattr(again, name)() == getattr(encoder, name)(), f"restore changes the {name}")
    before, after = encoder.prepare(items), again.prepare(items)
    require(_same(before, after), "prepare gives other features after restore")
    same = torch.equal(_embed(encoder, before), _embed(again, after))
    require(same, "forward gives other vectors after restore")


def _check_learnt(cls: type[Encoder], options: Any, encoder: Encoder, items: Sequence[Any]) -> None:
    """What ``fit`` learns from texts besides weights (a vocabulary) is in the fingerprint."""
    if not all(isinstance(item, str) for item in items):
        return
    # Other texts whose vocabulary is as large, so that the weights fit.
    other = _fitted(cls, options, [codecs.encode(item, "rot13") for item in items])
    try:
        other.load_state_dict(encoder.state_dict())
    except RuntimeError:
        return
    if not _same(encoder.prepare(items), other.prepare(items)):
        for name in ("fingerprint", "features_fingerprint"):
            differs = getattr(other, name)() != getattr(encoder, name)()
            require(differs, f"two encoders that prepare texts differently have one {name}")


def _check_training(encoder: Encoder, features: Sequence[np.ndarray]) -> None:
    """In training, the gradient reaches the weights, unless all of them are frozen."""
    weights = [weight for weight in encoder.parameters() if weight.requires_grad]
    encoder.train()
    with seeded(2):
        vectors = encoder(encoder.collate(features))
        require_finite(vectors, "forward in training")
        if weights:
            require(vectors.requires_grad, "no gradient leads back from forward in training")
            (vectors * torch.randn_like(vectors)).sum().backward()
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    for gradient in gradients:
        require_finite(gradient, "a gradient in training")
    learns = not weights or any(bool(gradient.any()) for gradient in gradients)
    require(learns, "no weight has a gradient, though some require one")
    encoder.zero_grad()
    encoder.eval()


@torch.no_grad()
def _embed(encoder: Encoder, features: Sequence[Any]) -> Tensor:
    return encoder(encoder.collate(list(features)))


def _same(features: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two lists of features are bit for bit the same."""
    if len(features) != len(others):
        return False
    return all(
        isinstance(other, np.ndarray)
        and feature.dtype == other.dtype
        and np.array_equal(feature, other)
        for feature, other in zip(features, others, strict=True)
    )


def _randomness() -> tuple[bytes, bytes, object]:
    """Where the generators of torch, NumPy and Python stand."""
    torch_state = torch.get_rng_state().numpy().tobytes()
    numpy_state = np.random.get_state(legacy=False)["state"]
    return torch_state, repr(numpy_state).encode() + bytes(numpy_state["key"]), random.getstate()
