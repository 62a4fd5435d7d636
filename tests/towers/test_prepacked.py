import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from msiam.towers.prepacked import prepacked


@given(
    rows=st.integers(0, 70),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
    batched=st.booleans(),
)
def test_it_gives_what_linear_gives(
    rows: int, inputs: int, outputs: int, bias: bool, batched: bool
) -> None:
    layer = nn.Linear(inputs, outputs, bias)
    states = torch.randn(2, rows, inputs) if batched else torch.randn(rows, inputs)
    with torch.no_grad():
        wanted = layer(states)
        with prepacked(layer):
            found = layer(states)
            strided = layer(torch.cat([states, states], dim=-1)[..., :inputs])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(strided, wanted, atol=1e-5, rtol=1e-5)


def test_it_is_gone_afterwards_and_may_be_nested() -> None:
    model, states = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(3, 8)
    with torch.no_grad():
        wanted = model(states)
        with prepacked(model):
            with prepacked(model):
                torch.testing.assert_close(model(states), wanted)
            torch.testing.assert_close(model(states), wanted)
        assert not any("forward" in vars(layer) for layer in model)
        assert torch.equal(model(states), wanted)


def test_new_weights_are_seen_the_next_time() -> None:
    layer, states = nn.Linear(8, 8), torch.randn(3, 8)
    with torch.no_grad():
        with prepacked(layer):
            old = layer(states)
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        with prepacked(layer):
            torch.testing.assert_close(layer(states), 2 * old)


@pytest.mark.parametrize("kind", ["float64", "hook", "subclass"])
def test_a_layer_that_is_no_plain_float32_one_stays_as_it_is(kind: str) -> None:
    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    layer = Doubled(4, 4) if kind == "subclass" else nn.Linear(4, 4)
    if kind == "float64":
        layer.double()
    if kind == "hook":
        layer.register_forward_hook(lambda module, given, found: found + 1)
    states = torch.randn(3, 4, dtype=layer.weight.dtype)
    wanted = layer(states)
    with prepacked(layer):
        assert "forward" not in vars(layer)
        assert torch.equal(layer(states), wanted)
