"""Measuring: which evaluators, and each of them once."""

from __future__ import annotations

import pytest

from msiam.errors import RecipeError
from msiam.evaluation.measure import build_evaluators
from msiam.registry.options import Term


def test_an_evaluator_is_given_once_since_its_figures_have_one_place():
    terms = [Term(name="knn", by="kind"), Term(name="retrieval"), Term(name="knn", by="hand")]
    assert list(build_evaluators(terms[:2])) == ["knn", "retrieval"]
    with pytest.raises(RecipeError, match=r"evaluate: found knn twice, .*; give it once"):
        build_evaluators(terms)
