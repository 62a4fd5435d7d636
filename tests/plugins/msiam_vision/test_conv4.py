"""Conv-4: its shapes, its size as published, and what each of its blocks computes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from msiam_vision.conv4 import Conv4
from pydantic import ValidationError

PICTURES = [np.zeros((20, 30), np.uint8), np.full((9, 9, 3), 200, np.uint8)]


def encoder(**options):
    torch.manual_seed(0)
    made = Conv4(Conv4.Options(**options))
    made.fit([])
    return made


@pytest.mark.parametrize(
    ("options", "dim"),
    [
        ({}, 64),
        ({"size": 32, "channels": 1}, 256),
        ({"size": 47, "widths": (4, 8, 16, 32)}, 4 * 32),
        ({"size": 16, "widths": (2, 2, 2, 3)}, 3),
        ({"size": 48, "widths": (2, 3, 3, 4), "residual": True, "channels": 1}, 9 * 4),
    ],
)
def test_shapes(options, dim):
    made = encoder(**options)
    vectors = made(made.collate(made.prepare(PICTURES)))
    assert vectors.shape == (2, dim) and made.dim == dim
    assert torch.isfinite(vectors).all()


def test_the_size_is_that_of_the_literature():
    """Snell et al.'s for Omniglot has 111,936 parameters, of which 256 are biases before a norm."""
    assert sum(p.numel() for p in encoder(channels=1).parameters()) == 111_936 - 256


def test_it_is_four_times_convolution_norm_relu_and_pool():
    made = encoder(size=32, channels=1, widths=(3, 4, 5, 6)).eval()
    batch = made.collate(made.prepare(PICTURES))
    x = (batch["pixels"].permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    weights = list(made.parameters())
    for convolution, scale, offset in zip(weights[::3], weights[1::3], weights[2::3], strict=True):
        # The statistics of a new norm are mean 0 and variance 1.
        x = F.conv2d(x, convolution, padding=1) / (1 + 1e-5) ** 0.5
        x = F.max_pool2d(F.relu(x * scale[:, None, None] + offset[:, None, None]), 2)
    assert torch.allclose(made(batch), x.flatten(1), atol=1e-5)


def test_its_layers_are_its_blocks():
    assert [len(layer) for layer in encoder().layers()] == [4, 4, 4, 4]
    assert [len(layer) for layer in encoder(residual=True).layers()] == [2, 2, 2, 2]


def test_a_residual_block_adds_two_convolutions_to_a_short_cut():
    made = encoder(size=16, channels=1, widths=(3, 3, 3, 3), residual=True).eval()
    torch.nn.init.zeros_(made.network[1][0].body[-1].weight)  # the norm behind both
    seen = torch.rand(2, 3, 8, 8)
    assert torch.equal(made.network[1](seen), F.max_pool2d(seen, 2))  # of what is above zero
    assert made.network[0][0].short[0].weight.shape == (3, 1, 1, 1)


@pytest.mark.parametrize("options", [{"size": 15}, {"widths": (64, 64, 64)}, {"widths": [0] * 4}])
def test_what_leaves_no_picture_or_no_block_is_refused(options):
    with pytest.raises(ValidationError):
        Conv4.Options(**options)
