"""A good miner passes, and each way to break the contract is noticed."""

from __future__ import annotations

import re

import pytest
import torch

from msiam.mining.batch import Hard, Miner
from msiam.registry.conformance import check_miner


def test_a_good_miner_passes():
    check_miner(Hard)


class NoMiner:
    pass


class Nearest(Hard):
    """Its own group may be chosen."""

    def choose(self, anchors, candidates, anchor_groups, candidate_groups):
        others = torch.full_like(candidate_groups, -7)
        return super().choose(anchors, candidates, anchor_groups, others)


class Never(Miner):
    def choose(self, anchors, candidates, anchor_groups, candidate_groups):
        return torch.full_like(anchor_groups, -1)


class Distances(Hard):
    def choose(self, *arguments):
        return super().choose(*arguments).float()


class FewerAnswers(Hard):
    def choose(self, *arguments):
        chosen = super().choose(*arguments)
        return chosen[chosen >= 0]


class Beyond(Hard):
    def choose(self, anchors, candidates, anchor_groups, candidate_groups):
        chosen = super().choose(anchors, candidates, anchor_groups, candidate_groups)
        return chosen.where(chosen >= 0, torch.tensor(len(candidates)))


class Destroys(Hard):
    def choose(self, anchors, candidates, anchor_groups, candidate_groups):
        chosen = super().choose(anchors, candidates, anchor_groups, candidate_groups)
        candidate_groups.zero_()
        return chosen


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (NoMiner, "must be a subclass of msiam.Miner"),
        (Nearest, "it chooses a candidate of the anchor's own group"),
        (Never, "it chooses none of 15 negatives for any anchor"),
        (Distances, "not integers"),
        (FewerAnswers, "it gives (0,) torch.int64, not integers"),
        (Beyond, "it chooses candidates that are not there"),
        (Destroys, "it changes what it is given"),
    ],
)
def test_what_breaks_the_contract_is_noticed(cls, said):
    with pytest.raises(AssertionError, match=re.escape(said)):
        check_miner(cls)
