"""The network of 1993: its shapes and size as published, and what its layers compute."""

import numpy as np
import pytest
import torch
from msiam_vision.time_delay import TimeDelay
from pydantic import ValidationError

RANDOM = np.random.default_rng(0)
PICTURES = [RANDOM.integers(0, 256, size, np.uint8) for size in [(20, 70), (9, 9, 3)]]


def encoder(**options):
    torch.manual_seed(0)
    made = TimeDelay(TimeDelay.Options(**options))
    made.fit([])
    return made.eval()


def test_the_layers_are_those_of_the_paper():
    """8 x 200 in, 12 x 64, 16 x 19; 8 x 11 and 12 x 10 weights a unit, and a bias."""
    made = encoder()
    x, shapes = torch.zeros(2, 1, 200, 200), []
    for layer in made.network:
        shapes.append(tuple((x := layer(x)).shape[1:]))
    assert shapes == [(8, 200), (12, 64), (12, 64), (16, 19), (16, 19), (304,)]
    assert sum(p.numel() for p in made.parameters()) == 12 * (8 * 11 + 1) + 16 * (12 * 10 + 1)


@pytest.mark.parametrize(
    ("options", "dim"), [({}, 304), ({"size": 38, "bands": 5}, 16), ({"channels": 3}, 304)]
)
def test_shapes(options, dim):
    made = encoder(**options)
    vectors = made(made.collate(made.prepare(PICTURES)))
    assert vectors.shape == (2, dim) and made.dim == dim
    assert torch.isfinite(vectors).all()


def test_a_unit_sees_a_window_of_columns():
    """By hand: the mean of bands, the same weights three steps on, and tanh; twice."""
    made = encoder(size=40, bands=4)
    batch = made.collate(made.prepare(PICTURES[:1]))
    columns = (batch["pixels"][0, :, :, 0].numpy() / 255 - 0.5) / 0.25
    x = columns.reshape(4, 10, 40).mean(1)
    for layer in (made.network[1], made.network[3]):
        weights, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        width = weights.shape[2]
        starts = range(0, x.shape[1] - width + 1, 3)
        sums = [(weights * x[:, start : start + width]).sum((1, 2)) + bias for start in starts]
        x = np.tanh(np.stack(sums, 1))
    assert np.allclose(made(batch).detach().numpy()[0], x.ravel(), atol=1e-5)


def test_its_layers_may_be_frozen():
    assert [type(layer).__name__ for layer in encoder().layers()] == ["Conv1d", "Conv1d"]


@pytest.mark.parametrize("options", [{"size": 37}, {"bands": 0}, {"channels": 2}])
def test_what_leaves_no_step_is_refused(options):
    with pytest.raises(ValidationError):
        TimeDelay.Options(**options)
