"""The network below the `lstm` encoder: both directions of an LSTM, and pooling over the words."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Reader(nn.Module):
    """LSTMs over padded texts, in which the padding touches nothing.

    PyTorch's own bidirectional LSTM is exact on packed texts only, and packed ones are slow on a
    CPU (long texts above all, in backward). Here the second direction is an LSTM of its own that
    reads each text from its last word to its first; padding stays behind the text in both, so
    that no state of a real word has seen any.
    """

    def __init__(self, width: int, hidden: int, layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.dim = hidden * (2 if bidirectional else 1)
        widths = [width] + [self.dim] * (layers - 1)
        self.onward = nn.ModuleList(nn.LSTM(w, hidden, batch_first=True) for w in widths)
        self.backward_ = nn.ModuleList(
            nn.LSTM(w, hidden, batch_first=True) for w in widths if bidirectional
        )

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Embedded words (b, t, width) of texts with these lengths (b,) to states (b, t, dim)."""
        place = torch.arange(words.shape[1], device=words.device)
        turned = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
        for layer, onward in enumerate(self.onward):
            states = onward(words)[0]
            if self.backward_:
                back = _taken(self.backward_[layer](_taken(words, turned))[0], turned)
                states = torch.cat([states, back], dim=-1)
            words = states
        return words


def _taken(words: Tensor, places: Tensor) -> Tensor:
    """The words (b, t, w) of each text in another order (b, t)."""
    return words.gather(1, places[..., None].expand_as(words))


class Pooling(nn.Module):
    """States (b, t, dim) of the first `lengths` words of each text to one float32 vector a text."""

    def __init__(self, kind: str, dim: int, bidirectional: bool) -> None:
        super().__init__()
        self.kind = kind
        self.bidirectional = bidirectional
        self.score = nn.Linear(dim, 1) if kind == "attention" else None

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        states = states.float()  # a mean of many needs more than bfloat16
        if self.kind == "last":
            return self._last(states, lengths)
        place = torch.arange(states.shape[1], device=states.device)
        padding = (place >= lengths[:, None])[..., None]
        if self.kind == "max":
            return states.masked_fill(padding, float("-inf")).amax(1)
        if self.score is None:
            return states.masked_fill(padding, 0).sum(1) / lengths[:, None]
        scores = self.score(states.to(self.score.weight.dtype)).float()
        weights = scores.masked_fill(padding, float("-inf")).softmax(1)
        return (weights * states.masked_fill(padding, 0)).sum(1)

    def _last(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Each direction's state after its whole text: the last word's and the first word's."""
        rows = torch.arange(len(states), device=states.device)
        last = states[rows, lengths - 1]
        if not self.bidirectional:
            return last
        half = states.shape[-1] // 2
        return torch.cat([last[:, :half], states[:, 0, half:]], dim=-1)
