"""How the names of metrics are read."""

from __future__ import annotations

import pytest

from msiam.evaluation.metrics import is_count, labelled


@pytest.mark.parametrize("name", ["pairs", "5_references/same", "a_to_b/median_rank", "episodes"])
def test_numbers_of_things_are_told_by_the_last_part_of_the_name(name: str) -> None:
    assert is_count(name)
    assert not is_count(f"{name}/share")


@pytest.mark.parametrize("name", ["eer", "5_references/eer", "brier", "ece"])
def test_an_error_says_that_lower_is_better(name: str) -> None:
    assert labelled(name) == f"{name} (lower is better)"


@pytest.mark.parametrize("name", ["auc", "recall@10", "eer/low"])
def test_any_other_is_shown_as_it_is(name: str) -> None:
    assert labelled(name) == name
