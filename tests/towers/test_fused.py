"""Fused convolutions give what PyTorch gives, and leave alone what they do not understand."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from msiam.towers.fused import Fused, fused


def lively(network: nn.Module) -> nn.Module:
    """In evaluation mode, with norms that are no identity."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.normal_(part.bias)
                nn.init.uniform_(part.weight, 0.5, 2)
    return network.eval()


@torch.no_grad()
def agree(network: nn.Module, size: tuple[int, ...] = (5, 3, 9, 8), atol: float = 1e-5) -> None:
    first, second = torch.randn(size), torch.randn(2, *size[1:])
    wanted = network(first.clone()), network(second.clone())
    with fused(network):
        found = network(first.clone()), network(second.clone())
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=atol * other.abs().max().item(), rtol=0)


def kinds(network: nn.Module, size: tuple[int, ...] = (5, 3, 9, 8)) -> list[str]:
    """The classes of modules that a batch goes through inside, as far as they are called."""
    seen: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, output: seen.append(type(module).__name__)
    )
    try:
        with torch.no_grad(), fused(network):
            network(torch.randn(size))
            seen.clear()
            network(torch.randn(size))
    finally:
        handle.remove()
    return [
        name for name in seen if name not in ("GraphModule", "Sequential", type(network).__name__)
    ]


class Residual(nn.Module):
    """A block with a sum that is made in one of many ways."""

    def __init__(self, end: Callable[[Tensor, Tensor], Tensor], project: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.short = nn.Conv2d(6, 6, 1) if project else nn.Identity()
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.end(self.body(x), self.short(x))


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 20),
    out=st.integers(1, 20),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    depthwise=st.booleans(),
    bias=st.booleans(),
    norm=st.sampled_from([None, True, False]),
    active=st.sampled_from([None, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU]),
)
def test_it_gives_what_the_layers_give(
    channels: int, out: int, kernel: int, stride: int, padding: int, dilation: int,
    depthwise: bool, bias: bool, norm: bool | None, active: type[nn.Module] | None,
) -> None:  # fmt: skip
    groups, out = (channels, channels) if depthwise else (1, out)
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 1)]
    layers.append(nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias))
    if norm is not None:
        layers.append(nn.BatchNorm2d(out, affine=norm))
    if active is not None:
        layers.append(active())
    agree(lively(nn.Sequential(*layers)), (3, 3, 12, 11))


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize(
    "end",
    [
        lambda body, short: (body + short).relu(),
        lambda body, short: F.relu(short + body, inplace=True),
        lambda body, short: torch.add(body, short),
        lambda body, short: torch.add(body, short, alpha=2),
        lambda body, short: F.relu6(body + short),
        lambda body, short: body.add_(short).relu_(),
        lambda body, short: body + body,
        lambda body, short: body + short.mean((2, 3), keepdim=True),
        lambda body, short: body + 1,
        lambda body, short: torch.cat([body + short, short], 1),
        lambda body, short: body * short,
        lambda body, short: (body + short) + short,
        lambda body, short: (body + short).flatten(1) + short.flatten(1).relu_(),
    ],
)
def test_sums_of_every_kind(end: Callable[[Tensor, Tensor], Tensor], project: bool) -> None:
    agree(lively(Residual(end, project)))


def test_norms_sums_and_activations_go_into_their_convolutions() -> None:
    network = lively(Residual(lambda body, short: F.relu(body + short), project=True))
    assert kinds(network) == ["Fused"] * 4
    network = lively(Residual(lambda body, short: F.gelu(body + short)))
    assert kinds(network) == ["Fused"] * 3
    dropped = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    assert kinds(lively(dropped)) == ["Fused"] * 2


def test_what_two_read_stays_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.second = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.second(self.norm(x)) + x

    network = lively(Twice())
    agree(network)
    assert kinds(network) == ["Fused", "BatchNorm2d", "Fused"]


def test_bf16_is_coarser_and_near() -> None:
    network = lively(Residual(lambda body, short: F.relu(body + short)))
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        wanted = network(x)
        with fused(network, torch.bfloat16), torch.autocast("cpu", torch.bfloat16):
            found = network(x)
    assert found.dtype == torch.bfloat16 and not torch.equal(found.float(), wanted)
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()


def pair(**conv: object) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, **conv), nn.ReLU(), nn.Conv2d(4, 2, 1))


class Choosy(nn.Sequential):
    """What it does depends on the numbers it is given, which no graph can follow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Noisy(nn.Sequential):
    """Draws numbers, of which a graph has only those of the time when it was made."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.rand(1)


@pytest.mark.parametrize("kind", ["float64", "hook", "choosy", "noisy", "one", "named"])
def test_what_is_not_understood_runs_as_it_did(kind: str) -> None:
    network: nn.Module = lively(pair())
    x = torch.randn(2, 3, 8, 8)
    if kind == "float64":
        network, x = network.double(), x.double()
    if kind == "hook":
        network[0].register_forward_hook(lambda module, given, found: found + 1)
    if kind == "choosy":
        network = Choosy(*network)
    if kind == "noisy":
        network = Noisy(*network)
    if kind == "one":
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    run = (lambda: network(input=x)) if kind == "named" else (lambda: network(x))
    with torch.no_grad():
        torch.manual_seed(0)
        wanted = run()
        with fused(network):
            run()
            torch.manual_seed(0)
            assert torch.equal(run(), wanted)
            if "forward" in vars(network):
                assert network.forward.known == network.forward.plain


@pytest.mark.parametrize("conv", [{"padding_mode": "reflect"}, {"groups": 1}])
def test_padding_other_than_with_zeros_is_left_to_pytorch(conv: dict[str, object]) -> None:
    agree(lively(pair(**conv)))
    expected = ["Conv2d", "ReLU"] if "padding_mode" in conv else ["Fused"]
    assert kinds(lively(pair(**conv))) == [*expected, "Fused"]


def test_it_is_gone_afterwards_and_may_be_nested() -> None:
    network, x = lively(pair()), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        wanted = network(x)
        with fused(network):
            with fused(network):
                torch.testing.assert_close(network(x), wanted)
            assert isinstance(network.forward.known, nn.Module)
            torch.testing.assert_close(network(x), wanted)
        assert "forward" not in vars(network)
        assert torch.equal(network(x), wanted)
        network[0].weight.mul_(2)
        with fused(network):
            torch.testing.assert_close(network(x), network.forward.plain(x))


def test_a_sum_is_written_over_what_nobody_reads_any_more() -> None:
    def overwriting(end: Callable[[Tensor, Tensor], Tensor], project: bool = False) -> int:
        network = lively(Residual(end, project))
        with torch.no_grad(), fused(network):
            network(torch.randn(2, 3, 8, 8))
            graph = network.forward.known
        return sum(part.overwrites for part in graph.modules() if isinstance(part, Fused))

    assert overwriting(lambda body, short: body + short) == 1
    assert overwriting(lambda body, short: body + short, project=True) == 1
    assert overwriting(lambda body, short: (body + short) * short) == 0
    assert overwriting(lambda body, short: (body + short.view(short.shape)) * 2) == 0


def test_the_smallest_part_that_holds_all_convolutions_is_what_runs_fused() -> None:
    module = nn.Sequential(nn.Sequential(pair(), nn.Flatten()), nn.Linear(128, 2)).eval()
    with torch.no_grad(), fused(module):
        module(torch.randn(1, 3, 8, 8))
        assert "forward" in vars(module[0][0])
        assert "forward" not in vars(module) and "forward" not in vars(module[0])
