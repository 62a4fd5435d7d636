"""Texts to vectors with convolutions over their words."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from msiam_lstm.encoder import LstmEncoder, WordOptions

Window = Annotated[int, Field(gt=0)]


class TextCnnOptions(WordOptions):
    """Options of the `text_cnn` encoder."""

    windows: tuple[Window, ...] = Field(
        (3, 4, 5), min_length=1, description="words that a filter sees, a kind of filter each"
    )
    filters: int = Field(100, gt=0, description="filters of each kind")


class TextCnn(LstmEncoder):
    """Filters over windows of words, ReLU, and each filter's maximum over the text.

    d = filters × kinds of windows. A text is read with w − 1 zeros at either end of it for a window
    of w words, so that one of any length has a value, and padding of a batch touches nothing.

    Paper: Kim, Convolutional Neural Networks for Sentence Classification, EMNLP 2014.
    """

    Options = TextCnnOptions
    name: ClassVar[str] = "text_cnn"

    @property
    def dim(self) -> int:
        return self.options.filters * len(self.options.windows)

    def _build_reader(self, width: int) -> None:
        filters = self.options.filters
        self.reader = nn.ModuleList(
            nn.Conv1d(width, filters, window, padding=window - 1) for window in self.options.windows
        )

    def _read(self, words: Tensor, lengths: Tensor) -> Tensor:
        place = torch.arange(words.shape[1], device=words.device)
        words = words.masked_fill((place >= lengths[:, None])[..., None], 0).transpose(1, 2)
        found = []
        for window, filters in zip(self.options.windows, self.reader, strict=True):
            seen = filters(words).relu()
            ends = torch.arange(seen.shape[2], device=words.device)
            behind = ends >= (lengths + window - 1)[:, None]  # windows of padding alone
            found.append(seen.masked_fill(behind[:, None], 0).amax(2))
        return torch.cat(found, dim=1)
