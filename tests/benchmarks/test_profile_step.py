"""Where the time of a step goes, as ``make bench`` has it: each operation counts for its part."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from torch import nn

WORDS = ["where", "is", "the", "red", "cat", "or", "a", "blue", "dog", "near", "that", "house"]
SMALL = {
    "encoder": "transformer",
    "config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    "dim": 32,
    "head": "none",
}


@pytest.fixture
def step(benchmark_module):
    return benchmark_module("profile_step")


def texts(count):
    return [
        " ".join(WORDS[(n * k) % len(WORDS)] for k in range(3, 7)) + f" {n}" for n in range(count)
    ]


def profiled(step, work):
    found = step.Profiled()
    found.begin()
    work()
    found.end()
    return found.microseconds()


def test_each_operation_counts_for_its_part(step):
    words, layer, norm = nn.Embedding(50, 8), nn.Linear(8, 8), nn.LayerNorm(8)
    numbers = torch.arange(50)
    parts = {
        "word embeddings": lambda: words(numbers),
        "linear layers": lambda: layer(torch.ones(4, 8)),
        "norms, activations, dropout": lambda: norm(torch.ones(4, 8)),
        "attention": lambda: nn.functional.scaled_dot_product_attention(*torch.ones(3, 1, 1, 4, 8)),
    }
    for part, work in parts.items():
        found = profiled(step, work)
        others = found.keys() - {part, step.REST}
        assert found[part] > 0 and not others, part


def test_backward_counts_for_what_it_is_the_gradient_of(step):
    layer, states = nn.Linear(64, 64), torch.ones(8, 64)
    cost = step.scoped(step.LOSS, lambda vectors: (vectors @ vectors.T).exp().sum())
    with step.profile() as profile:
        cost(layer(states)).backward()
    products = [p for e, p in step.with_parts(profile.events()) if e.name == "aten::mm"]
    # Of the cost, one and the gradients of both its sides; of the layer, its weight's gradient.
    assert Counter(products) == {step.LOSS: 3, "linear layers": 1}


def test_the_whole_is_all_of_the_time(step):
    found = step.Profiled()
    found.begin()
    torch.ones(200, 200) @ torch.ones(200, 200)
    found.end()
    (whole,) = (one for one in found._profile.events() if one.name == "whole")
    assert found.microseconds().total() == pytest.approx(whole.cpu_time_total, rel=0.02)


def test_the_table(step):
    found = Counter({"linear layers": 6000.0, step.LOSS: 2000.0, step.REST: 2000.0})
    other = Counter({"linear layers": 1_000_000.0})
    assert step.table({"a step": found, "encoding": other}) == (
        "| part | a step | encoding |\n"
        "| --- | --- | --- |\n"
        "| linear layers | 60.0% | 100.0% |\n"
        f"| {step.LOSS} | 20.0% |  |\n"
        f"| {step.REST} | 20.0% |  |\n"
        "| in all | 10 ms | 1,000 ms |\n"
    )


@pytest.fixture
def small(step, monkeypatch):
    """Two rows that need no data and no pretrained model."""
    training, encoding = (step.ROWS[name] for name in ("train_defaults", "encode_fp32"))

    def rows(count):
        return [
            {"question1": a, "question2": f"tell me {a}", "label": number % 2}
            for number, a in enumerate(texts(count))
        ]

    plan = dataclasses.replace(training.plan, rows=rows, tower=SMALL, precision="fp32")
    text = dataclasses.replace(encoding.plan, items=texts)
    rows_by_name = {
        "train_defaults": dataclasses.replace(training, plan=plan, files=(), peers=()),
        "encode_fp32": dataclasses.replace(encoding, plan=text, files=(), peers=()),
    }
    monkeypatch.setattr(step, "ROWS", rows_by_name)


def test_it_runs_on_a_few_texts_and_leaves_the_page_alone(step, small, monkeypatch, capsys):
    before = step.DOCS.read_bytes()
    callbacks = list(step.transformers.trainer.DEFAULT_CALLBACKS)
    collate = step.Collator.__call__
    monkeypatch.setattr(step, "LEAST", 1e-9)  # whatever was seen at all
    monkeypatch.setattr("sys.argv", ["profile_step.py", "--tiny"])
    assert step.main() == 0
    out = capsys.readouterr().out
    for part in ("linear layers", "attention", step.OPTIMIZER, step.LOSS, step.PREPARING):
        assert f"| {part} |" in out
    assert step.DOCS.read_bytes() == before
    assert callbacks == step.transformers.trainer.DEFAULT_CALLBACKS
    assert step.Collator.__call__ is collate


def test_without_its_data_it_says_so(step, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MSIAM_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["profile_step.py"])
    assert step.main() == 1
    assert "train_defaults: left out, there is no " in capsys.readouterr().out


def test_the_page_has_a_place_for_the_table(step):
    page = step.DOCS.read_text(encoding="utf-8")
    assert all(page.count(f"{mark}\n") == 1 for mark in step.MARKS)
