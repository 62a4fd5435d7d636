"""The fully-convolutional network: its geometry, and that it sees all places alike."""

import numpy as np
import pytest
import torch
from msiam_tracking.encoder import SiamFC
from msiam_tracking.geometry import EXEMPLAR, KERNEL, PLACES, SEARCH, STRIDE
from msiam_tracking.loss import as_maps, middle

from msiam.registry.conformance import check_encoder

TINY = {"width": 4, "channels": 3}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    made = SiamFC(SiamFC.Options(**TINY))
    made.fit([])
    return made.eval()


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, SEARCH, SEARCH, 3)))


def test_it_keeps_the_contract():
    sizes = [(SEARCH, SEARCH), (50, 20), (300, 400)]
    random = np.random.default_rng(1)
    check_encoder(SiamFC, TINY, [random.integers(0, 256, (*s, 3), np.uint8) for s in sizes])


@torch.no_grad()
def test_the_sizes_of_the_paper(encoder, pixels):
    assert encoder.maps(pixels).shape == (2, 3, PLACES, PLACES)
    assert encoder.maps(pixels[:, :EXEMPLAR, :EXEMPLAR]).shape == (2, 3, KERNEL, KERNEL)
    assert encoder({"pixels": pixels}).shape == (2, encoder.dim)


@torch.no_grad()
def test_the_middle_of_a_map_is_the_map_of_the_middle(encoder, pixels):
    margin = (SEARCH - EXEMPLAR) // 2
    inside = pixels[:, margin:-margin, margin:-margin]
    whole = as_maps(encoder({"pixels": pixels}))
    torch.testing.assert_close(middle(whole), encoder.maps(inside))


@torch.no_grad()
def test_what_moves_by_a_stride_moves_by_a_place(encoder, pixels):
    moved = torch.roll(pixels, STRIDE, dims=1)
    there, here = encoder.maps(moved)[:, :, 1:], encoder.maps(pixels)[:, :, :-1]
    torch.testing.assert_close(there, here)


def test_light_varies_in_training_alone(encoder, pixels):
    batch = {"pixels": pixels[:1].repeat(2, 1, 1, 1)}
    one, other = encoder(batch)
    torch.testing.assert_close(one, other)
    before = batch["pixels"].clone()
    one, other = encoder.train()(batch)
    assert (one - other).abs().max() > 0.01
    assert torch.equal(batch["pixels"], before)
