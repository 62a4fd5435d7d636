"""Texts as bags of character n-grams.

Paper: Bojanowski, Grave, Joulin and Mikolov, Enriching Word Vectors with Subword Information, 2017.
"""

from __future__ import annotations

import zlib

import numpy as np
import pydantic
import torch

from msiam import Encoder, Options, Rejected


class NgramOptions(Options):
    width: int = pydantic.Field(128, gt=0, description="width of an n-gram's vector")
    shortest: int = pydantic.Field(3, gt=0, description="letters in the shortest n-gram")
    longest: int = pydantic.Field(5, gt=0, description="letters in the longest n-gram")
    buckets: int = pydantic.Field(50_000, gt=0, description="vectors that the n-grams share")


class NgramEncoder(Encoder):
    """The mean of the vectors of a text's n-grams, within words and at their ends.

    N-grams are told apart by a checksum, so that nothing need be learnt from the data before
    training, nor saved beside the weights.
    """

    Options = NgramOptions
    modality = "text"

    def fit(self, items):
        self.bag = torch.nn.EmbeddingBag(self.options.buckets, self.options.width, mode="mean")

    @property
    def dim(self):
        return self.options.width

    @classmethod
    def accepts(cls, item):
        return isinstance(item, str)

    def prepare(self, items):
        return [self._numbers(item) for item in items]

    def _numbers(self, item):
        """The bucket of each n-gram of a text, (n,) int64."""
        if not isinstance(item, str) or not item.strip():
            return Rejected("no text")
        sizes = range(self.options.shortest, self.options.longest + 1)
        words = [f"<{word}>" for word in item.lower().split()]
        grams = [w[i : i + n] for w in words for n in sizes for i in range(max(1, len(w) - n + 1))]
        codes = [zlib.crc32(gram.encode("utf-8", "surrogatepass")) for gram in grams]
        return np.array(codes, np.int64) % self.options.buckets

    def collate(self, features):
        starts = np.cumsum([0] + [len(feature) for feature in features[:-1]])
        return {
            "numbers": torch.from_numpy(np.concatenate(features)),
            "starts": torch.from_numpy(starts),
        }

    def forward(self, batch):
        return self.bag(batch["numbers"], batch["starts"])

    def cost(self, feature):
        return len(feature)
