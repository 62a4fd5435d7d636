"""What a training was: said as it begins, and kept with its figures."""

from __future__ import annotations

import transformers
from rich.console import Console

from msiam.data.parts import Parts
from msiam.recipe import Train
from msiam.towers.model import Model

#: A pretrained encoder that learns faster than this loses what it was chosen for.
KEEPS_PRETRAINED = 3e-4

#: What no figure that is watched can pass.
PERFECT = 1.0


def introduce(model: Model, parts: Parts, settings: Train, console: Console) -> None:
    """Say what each tower is, and warn where its weights are about to be spoilt."""
    for name, items in parts.items.items():
        tower = model.tower(name)
        size, learns = tower.parameter_count(), tower.parameter_count(trained=True)
        trained = f" ({learns:,} trained)" if learns < size else ""
        begun = "pretrained" if tower.encoder.pretrained else "from scratch"
        console.print(
            f"tower {name}: {tower.summary}, {begun}, {size:,} parameters{trained}, "
            f"{len(items.values):,} distinct items",
            highlight=False,
            soft_wrap=True,
        )
        rate = tower.options.learning_rate or settings.learning_rate
        changes = any(weight.requires_grad for weight in tower.encoder.parameters())
        if changes and tower.encoder.pretrained and rate > KEEPS_PRETRAINED:
            console.print(
                f"tower {name}: is pretrained, and at the learning rate {rate:g} it soon forgets "
                f"what it knows; 1e-5 to 1e-4 suits it: set towers.{name}.learning_rate",
                style="yellow",
                soft_wrap=True,
            )


def conclude(state: transformers.TrainerState, metric: str, console: Console) -> None:
    """Say which step's weights are kept, and warn where training made nothing better."""
    key, best = f"eval_{metric}", state.best_metric
    if best is None or state.best_global_step is None:
        return
    console.print(
        f"  kept: step {state.best_global_step:,} of {state.global_step:,}, the best on validation "
        "since training began",
        highlight=False,
    )
    before = [entry[key] for entry in state.log_history if key in entry and entry["step"] == 0]
    if not before or best > before[0]:
        return
    if before[0] == best == PERFECT:
        said = (
            f"validation cannot tell whether training helped: its {metric} was {PERFECT:.4f} "
            "before, and is; hold more rows out (data.split.validation)"
        )
    else:
        said = (
            f"training made nothing better: validation {metric} was {before[0]:.4f} before it, and "
            f"{best:.4f} at best since; try more steps, another train.learning_rate or loss"
        )
    console.print(said, style="yellow", soft_wrap=True)


def facts(
    parts: Parts, model: Model, state: transformers.TrainerState, seconds: float
) -> dict[str, float]:
    """What the training was, for metrics.json."""
    sizes = {f"{part}_rows": len(examples) for part, examples in parts.examples.items()}
    return {
        **sizes,
        "rejected_rows": len(parts.rejected),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": state.global_step,
        "kept_step": state.best_global_step or state.global_step,
        "seconds": round(seconds, 1),
    }
