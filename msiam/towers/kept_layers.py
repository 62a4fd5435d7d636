"""What the frozen first layers of a tower make of its items: computed once, kept on disk, read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msiam.towers.encoder import Rejected
from msiam.towers.encoding import batches, device_of
from msiam.towers.feature_cache import FeatureCache, cache_named, item_key, place, way
from msiam.towers.first_layers import States, collate, first_fingerprint, run_first, run_rest
from msiam.towers.inference import EXACT, for_inference
from msiam.towers.tower import Tower

CHUNK = 256  # items that go through the layers before the next are looked at
LOOK = 4  # items on which it is tried
#: Of the room that a disk has left, how much may be taken.
SHARE = 0.5


class KeptLayers:
    """The states of items behind a tower's frozen first layers, in the place of their features.

    They are as exact as float32 is, lie in files that are mapped into memory, and are found again
    for as long as the layers' weights, the encoder's options and code, and the item are the same.

    Attributes:
        reason: why the layers run anew each time, if they do.
    """

    def __init__(self, tower: Tower, items: Sequence[Any]) -> None:
        """For these items, on a few of which it is tried."""
        self.tower, self.encoder, self.count = tower, tower.encoder, tower.frozen
        name = way(self.encoder, first_fingerprint(self.encoder, self.count))
        self.cache = cache_named(name)
        self.reason: str | None = None
        some = items[:: max(1, len(items) // LOOK)][:LOOK]
        features = [one for one in self.encoder.prepare(some) if not isinstance(one, Rejected)]
        if self.cache is None:
            self.reason = "nothing is kept, since MSIAM_CACHE is empty, or its code has no file"
        elif self.encoder.variants > 1 or (features and not self._works(features)):
            name = tower.options.encoder
            self.reason = f"{name} hands out no outputs of theirs that would stay the same"

    def states(
        self,
        items: Sequence[Any],
        features: Sequence[np.ndarray],
        progress: Callable[[int], object] | None = None,
    ) -> Sequence[np.ndarray]:
        """The states of items, by their features; or the features where they are not to be had.

        Args:
            progress: told after each chunk how many items went through the layers.
        """
        if self.reason is not None or self.cache is None:
            return features
        return self._kept(items, features, self.cache, progress) or features

    def _kept(
        self,
        items: Sequence[Any],
        features: Sequence[np.ndarray],
        cache: FeatureCache,
        progress: Callable[[int], object] | None,
    ) -> list[np.ndarray] | None:
        keys = [key for key in map(item_key, items) if key is not None]
        if len(keys) < len(items):
            self.reason = "there are items of a kind of which nothing is kept"
            return None
        missing = [number for number, key in enumerate(keys) if key not in cache]
        if missing and not self._room([features[number] for number in missing]):
            return None
        for start in range(0, len(missing), CHUNK):
            if not cache.writes:  # in memory they would be too much
                self.reason = f"{cache.folder}: cannot be written"
                return None
            chunk = missing[start : start + CHUNK]
            for number, states in zip(chunk, self._made([features[n] for n in chunk]), strict=True):
                cache[keys[number]] = states
            if progress is not None:
                progress(len(chunk))
        cache.flush()
        return [cache[key].view(States) for key in keys]

    def _room(self, features: Sequence[np.ndarray]) -> bool:
        """Whether there is room for the states of all of these, by those of a few."""
        costs = np.array([self.encoder.cost(feature) for feature in features])
        few = slice(0, LOOK)
        bytes_ = sum(one.nbytes for one in self._made(features[few]))
        needed = bytes_ * costs.sum() / max(1, costs[few].sum())
        folder = place()
        assert folder is not None
        free = shutil.disk_usage(_there(folder)).free
        if needed > SHARE * free:
            self.reason = (
                f"their outputs take {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB "
                "left, of which half may be taken; name a larger disk in MSIAM_CACHE"
            )
        return self.reason is None

    @torch.no_grad()
    def _made(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the layers make of some features, in their order."""
        made: dict[int, np.ndarray] = {}
        costs = np.array([self.encoder.cost(feature) for feature in features])
        with for_inference(self.tower, EXACT):
            for rows in batches(costs, self.encoder.budget):
                batch = self._batch([features[row] for row in rows])
                parts = run_first(self.encoder, batch, self.count)
                assert parts is not None
                whole = torch.cat(list(parts)).float().cpu()
                for row, one in zip(rows, whole.split([len(part) for part in parts]), strict=True):
                    made[row] = one.numpy()
        return [made[row] for row in range(len(features))]

    def _batch(self, features: Sequence[np.ndarray]) -> dict[str, Tensor]:
        device = device_of(self.tower)
        return {n: tensor.to(device) for n, tensor in collate(self.encoder, features).items()}

    def _works(self, features: Sequence[np.ndarray]) -> bool:
        """Whether the layers can be run by themselves, and the rest of the encoder after them.

        In training as in evaluation they must make the same of an item, and nothing that learns
        may have a part in it; from what they make, the rest must come to the encoder's vectors.
        """
        batch, training = self._batch(features), self.tower.training
        device = device_of(self.tower)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            try:
                self.tower.train()
                with torch.enable_grad():
                    first = run_first(self.encoder, batch, self.count)
                self.tower.eval()
                again = run_first(self.encoder, batch, self.count)
                if first is None or again is None or any(one.requires_grad for one in first):
                    return False
                if not all(map(_near, first, again)):
                    return False
                arrays = [one.cpu().numpy().view(States) for one in again]
                with torch.no_grad():
                    vectors = run_rest(self.encoder, self._batch(arrays), self.count)
                    return _near(vectors, self.encoder(batch))
            except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError):
                return False  # a stranger's encoder may do anything between its layers
            finally:
                self.tower.train(training)


def _near(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    far = 1e-4 * wanted.abs().max().item()
    return torch.allclose(found, wanted, rtol=0, atol=far)


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.absolute().parents) if one.is_dir())
