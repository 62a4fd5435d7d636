from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from msiam.errors import TrainingError
from msiam.evaluation.evaluator import Evaluator, Result, percent
from msiam.evaluation.retrieval import Retrieval
from msiam.evaluation.verification import Verification
from msiam.registry import registry


def test_rows_are_in_the_order_of_the_examples(make):
    embedded = make(
        {"a": [2, 0], "b": [1, 1]},
        {"a": [2, 0], "b": [1, 1]},
        {"t": np.eye(3)},
        {"a": "t", "b": "t"},
    )
    assert embedded.rows("a").tolist() == [[0, 0, 1], [1, 0, 0]]
    assert embedded.rows("b").tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_no_number_is_an_error(make, value):
    numbers = {"a": [0, 1], "b": [0, 1]}
    with pytest.raises(
        TrainingError, match="tower 'b' embeds 1 of the 2 items of 'b' as no number"
    ):
        make(numbers, numbers, {"a": np.eye(2), "b": [[1, 0], [0, value]]})


def test_items_of_other_parts_are_not_looked_at(make):
    numbers = {"a": [0], "b": [0]}
    make(numbers, numbers, {"a": [[1.0], [np.nan]], "b": [[1.0]]})


@pytest.mark.parametrize("evaluator", [Verification(), Retrieval()])
def test_primary_is_always_measured(aligned, evaluator):
    assert evaluator.primary in evaluator.evaluate(aligned(30), None).metrics


def test_the_core_registers_both():
    for name, cls in {"verification": Verification, "retrieval": Retrieval}.items():
        assert registry().find("evaluator", name).load() is cls


def test_an_evaluator_of_a_stranger_needs_one_method(aligned):
    class Rows(Evaluator):
        primary = "rows"

        def evaluate(self, embedded, calibration):
            return Result({"rows": float(len(embedded.examples))})

    assert Rows().evaluate(aligned(3), None).metrics == {"rows": 3.0}


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.8123, "81.2 %"),
        (0.00025, "0.025 %"),
        (0.0025, "0.25 %"),
        (0.99975, "99.975 %"),
        (2e-6, "0.00020 %"),
        (1e-9, "under 0.0001 %"),
        (1 - 1e-9, "over 99.9999 %"),
    ],
)
def test_percent(share, said):
    assert percent(share).replace("\u00a0", " ") == said


def test_measuring_imports_neither_drawing_nor_torch():
    code = (
        "import sys, msiam.evaluation.verification, msiam.evaluation.retrieval, "
        "msiam.evaluation.report, msiam.evaluation.findings\n"
        "print([m for m in ('torch', 'matplotlib', 'jinja2', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
