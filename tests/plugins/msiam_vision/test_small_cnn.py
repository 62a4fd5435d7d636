"""The small CNN: shapes, and that it learns."""

import numpy as np
import pydantic
import pytest
import torch
import torch.nn.functional as F
from msiam_vision.small_cnn import SmallCNN


def encoder(**options):
    torch.manual_seed(0)
    made = SmallCNN(SmallCNN.Options(**options))
    made.fit([])
    return made


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize(
    ("options", "dim"),
    [({}, 256), ({"width": 8, "depth": 2}, 64), ({"channels": 1, "size": 37, "width": 4}, 32)],
)
def test_shapes(options, dim, patch):
    made = encoder(patch=patch, **options)
    features = made.prepare([np.zeros((20, 30), np.uint8), np.zeros((9, 9, 3), np.uint8)])
    vectors = made(made.collate(features))
    assert vectors.shape == (2, dim) and made.dim == dim
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize(("patch", "size", "pool"), [(2, 48, 3), (4, 64, 2), (1, 48, 2)])
def test_the_mean_over_all_places_is_the_vector_that_has_none(patch, size, pool):
    one, many = (encoder(size=size, patch=patch, width=4, pool=side) for side in (1, pool))
    assert many.dim == 32 * pool**2
    many.load_state_dict(one.state_dict())
    picture = np.random.default_rng(0).integers(0, 255, (70, 70), np.uint8)
    batch = one.collate(one.prepare([picture]))
    one.eval(), many.eval()
    places = many(batch).reshape(1, 32, pool * pool)
    assert torch.allclose(places.mean(2), one(batch), atol=1e-5)
    assert places.std(2).max() > 0


def test_a_map_is_not_pooled_to_a_larger_one():
    with pytest.raises(pydantic.ValidationError, match=r"pool: found 4; .* a side of 3"):
        encoder(size=48, patch=2, pool=4)


def test_the_default_is_small():
    assert 1_000_000 < sum(p.numel() for p in encoder().parameters()) < 1_500_000


def test_it_learns_to_tell_shapes_apart():
    """Where a stroke lies and how it runs, of pictures that differ in nothing else."""
    torch.manual_seed(0)
    made = encoder(size=32, width=8, patch=2, channels=1, augment={"shift": 0.05, "zoom": 0})
    canvas = np.full((3, 32, 32), 255, np.uint8)
    canvas[0, 14:18] = 0
    canvas[1, :, 14:18] = 0
    canvas[2][np.eye(32, dtype=bool)] = 0
    batch = made.collate(made.prepare(list(canvas) * 8))
    labels = torch.arange(3).repeat(8)
    head = torch.nn.Linear(made.dim, 3)
    optimiser = torch.optim.AdamW([*made.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(head(made(batch)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.9 and losses[-1] < 0.1
    made.eval()
    with torch.no_grad():
        assert (head(made(batch)).argmax(1) == labels).all()
