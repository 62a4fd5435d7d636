"""Convolutional networks that are only read from: norms folded in, activations and sums fused.

A norm after a convolution only scales and shifts each channel, which the convolution's own weights
can do (Jacob et al., 2018). What is left goes through oneDNN in one pass over the memory:
convolution, sum with the short cut, activation, channels last, with weights laid out once. The
operators are those to which ``torch.compile`` lowers a frozen model, without its long compiling.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

#: How far what comes out may be from what would have, as a share of the largest.
NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.05}
LOOK = 2  # inputs on which that is tried

Activation = tuple[str, list[float | None], str]  # as oneDNN's operators have it
NONE: Activation = ("none", [], "")
RELU: Activation = ("relu", [], "")
RELU6: Activation = ("hardtanh", [0.0, 6.0], "")
SILU: Activation = ("swish", [], "")
HARDSWISH: Activation = ("hardswish", [], "")
#: By the class of a module, a function, or the name of a method.
ACTIVATIONS: dict[Any, Activation] = {
    **dict.fromkeys((nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"), RELU),
    **dict.fromkeys((nn.ReLU6, F.relu6), RELU6),
    **dict.fromkeys((nn.SiLU, F.silu), SILU),
    **dict.fromkeys((nn.Hardswish, F.hardswish), HARDSWISH),
}
SUMS = (operator.add, operator.iadd, torch.add)


@contextlib.contextmanager
def fused(module: nn.Module, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Inside, the part that holds the module's convolutions runs fused, from its first batch on.

    It stays as it is where ``torch.fx`` cannot follow it, where it has hooks, or weights that are
    not float32 on a CPU, and where two of the first inputs come out as anything else than before.
    Nothing may be trained meanwhile: neither weights nor gradients are followed.

    Args:
        dtype: what to multiply in, float32 or bfloat16.
    """
    network = _network(module)
    if network is None or not _fits(network):
        yield
        return
    network.forward = _FromFirstBatch(network, dtype)
    try:
        yield
    finally:
        del network.forward


class _FromFirstBatch:
    """A network's forward, which is fused when the first batch shows its shapes."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network, self.dtype = network, dtype
        self.plain = network.forward
        self.known: Callable[..., Any] | None = None

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if self.known is None:
            plain = named or len(inputs) != 1 or not isinstance(inputs[0], Tensor)
            self.known = (not plain and _fused(self.network, inputs[0], self.dtype)) or self.plain
        return self.known(*inputs, **named)


def _network(module: nn.Module) -> nn.Module | None:
    """The smallest module that holds all convolutions; None where there is at most one."""
    counts = [(part, _convolutions(part)) for part in module.modules()]  # from the outside inwards
    most = counts[0][1]
    return [part for part, count in counts if count == most][-1] if most > 1 else None


def _convolutions(module: nn.Module) -> int:
    return sum(isinstance(part, nn.Conv2d) for part in module.modules())


def _fits(network: nn.Module) -> bool:
    numbers = [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
    inside = [part for part in network.modules() if part is not network]
    return (
        "forward" not in vars(network)
        and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in numbers)
        and not any(part._forward_hooks or part._forward_pre_hooks for part in inside)
    )


@torch.no_grad()
def _fused(network: nn.Module, batch: Tensor, dtype: torch.dtype) -> nn.Module | None:
    """The network as a graph of fused operators; None where that cannot be had."""
    some = batch[:LOOK].float()
    try:
        with torch.autocast("cpu", enabled=False):
            wanted = type(network).forward(network, some)
            graph = fx.GraphModule(network, _Tracer().trace(network))
            _FirstRun(graph).run(some)
        for node in list(graph.graph.nodes):
            if node.meta["idle"]:
                node.replace_all_uses_with(node.args[0])
                graph.graph.erase_node(node)
        for node in list(graph.graph.nodes):
            if type(_what(graph, node)) is nn.Conv2d:
                _fuse(graph, node, len(batch), dtype)
        _overwrite(graph)
        graph.recompile()
        found = graph(some).float()
        far = NEAR[dtype] * wanted.abs().max().item()
        right = found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=far)
    except Exception:  # a network may hold anything; it then runs as it did
        return None
    return graph if right else None


class _Tracer(fx.Tracer):
    """Looks into what holds convolutions, and takes all other modules as they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not _convolutions(m) or super().is_leaf_module(m, module_qualified_name)


class _FirstRun(fx.Interpreter):
    """Runs a graph as it is; notes of each step its output's size and whether it did nothing."""

    def run_node(self, n: fx.Node) -> Any:
        args, _ = self.fetch_args_kwargs_from_env(n)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        version = None if first is None else first._version
        output = super().run_node(n)
        n.meta["size"] = tuple(output.shape) if isinstance(output, Tensor) else None
        # As dropout is, when nothing is trained.
        same = n.op != "output" and first is not None and output is first
        n.meta["idle"] = same and output._version == version
        return output


class Fused(nn.Module):
    """A convolution, or one with a sum, an activation or both behind it, as one operator.

    Args:
        conv: whose stride and so on it has.
        weight, bias: its own, or with a norm folded in.
        size: of its inputs, (B, C, H, W), for which the weights are laid out.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        weight: Tensor,
        bias: Tensor | None,
        activation: Activation,
        size: Sequence[int],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
        weight = weight.detach().to(dtype)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *shape, size)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.shape, self.activation, self.dtype = shape, activation, dtype
        self.overwrites = False  # writes the sum over its other part

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        ops = torch.ops.mkldnn
        how = (self.weight, self.bias, *self.shape)
        x = _laid_out(x, self.dtype)
        if other is None:
            return ops._convolution_pointwise(x, *how, *self.activation)
        unary = (None, [], None) if self.activation is NONE else self.activation
        how = (*how, "add", None, *unary)
        if self.overwrites:
            return ops._convolution_pointwise_(other, x, *how)
        return ops._convolution_pointwise(x, _laid_out(other, self.dtype), *how)


def _laid_out(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def _fuse(graph: fx.GraphModule, node: fx.Node, batch: int, dtype: torch.dtype) -> None:
    """Put one operator in the place of a convolution and of what alone reads its output.

    That is a norm, then a sum, then an activation, each where it is there.
    """
    conv: Any = _what(graph, node)
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return
    weight, bias, activation = conv.weight, conv.bias, NONE
    inputs, chain = [node.args[0]], [node]
    norm = _what(graph, _reader(chain[-1]))
    if type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
        statistics: Any = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        weight, bias = fuse_conv_bn_weights(weight, bias, *statistics)
        chain.append(_reader(chain[-1]))
    total = _reader(chain[-1])
    if _what(graph, total) in SUMS and not total.kwargs:
        others = [given for given in total.args if given is not chain[-1]]
        if len(others) == 1 and _size(others[0]) == _size(node):
            inputs += others
            chain.append(total)
    active = _what(graph, _reader(chain[-1]))
    found = ACTIVATIONS.get(type(active) if isinstance(active, nn.Module) else active)
    if found is not None and (len(inputs) == 1 or found is RELU):  # oneDNN's sums take no other
        activation = found
        chain.append(_reader(chain[-1]))
    size = (batch, *_size(inputs[0])[1:])
    name = f"fused_{node.name}"
    graph.add_submodule(name, Fused(conv, weight, bias, activation, size, dtype))
    with graph.graph.inserting_before(chain[-1]):
        new = graph.graph.call_module(name, tuple(inputs))
    new.meta = chain[-1].meta
    chain[-1].replace_all_uses_with(new)
    for old in reversed(chain):
        graph.graph.erase_node(old)


def _overwrite(graph: fx.GraphModule) -> None:
    """Let a sum be written over its other part where that is a convolution's, and read no more."""
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node, place in order.items():
        what = _what(graph, node)
        if isinstance(what, Fused) and len(node.args) == 2:
            x, other = node.args
            readers = [user for user in other.users if user is not node]
            what.overwrites = (
                x is not other
                and isinstance(_what(graph, other), Fused)
                and all(isinstance(_what(graph, reader), Fused) for reader in readers)
                and all(order[reader] < place for reader in readers)
            )


def _reader(node: fx.Node) -> Any:
    """What reads a step's output, if only one does."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _what(graph: fx.GraphModule, node: fx.Node | None) -> Any:
    """The module, the function or the name of the method that a node of the graph calls."""
    if node is None or node.op not in ("call_module", "call_function", "call_method"):
        return None
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else node.target


def _size(node: Any) -> Any:
    return node.meta["size"] if isinstance(node, fx.Node) else None
