"""A recipe: one task as validated data. YAML in, YAML out, overrides by dotted keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml

from msiam.errors import RecipeError, one_of
from msiam.recipe_data import Data as Data
from msiam.recipe_data import Decision
from msiam.registry.options import Options, Term, explain

#: The table of a recipe whose rows are given from Python.
GIVEN = "<given>"

#: What is said of the rows -> the loss and the evaluator that a recipe gets if it names none.
DEFAULTS = {
    None: ("infonce", "retrieval"),
    "label": ("contrastive", "verification"),
    "score": ("cosent", "correlation"),
    "classes": ("supcon", "retrieval"),
}

#: The loss of rows that are drawn, by how many columns they have.
OF_DRAWN = {2: "infonce", 3: "triplet", 4: "quadruplet"}


class SamplerTerm(Options):
    """Which rows make a batch; see ``msiam.data.samplers``."""

    name: Literal["shuffled", "no_duplicates", "by_length", "classes"] = "shuffled"
    per_class: int | None = pydantic.Field(None, gt=1, description="items of each class; 4")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        content = {"name": value} if isinstance(value, str) else value
        if isinstance(content, dict) and content.get("name") == "classes":
            return {"per_class": 4} | content
        return content

    @pydantic.model_validator(mode="after")
    def _of_classes_alone(self) -> Self:
        if (self.name == "classes") != (self.per_class is not None):
            raise ValueError("per_class is how many items of each class there are, for classes")
        return self

    @pydantic.model_serializer
    def _as_written(self) -> Any:
        return self.name if self.per_class is None else dict(self)


#: How the size of a change of an input is measured.
Norm = Literal["linf", "l2"]


class AdversarialTerm(Options):
    """Training on the worst of changed inputs; see ``msiam.training.adversarial``."""

    epsilon: float = pydantic.Field(gt=0, description="most change; of pictures, in 255ths")
    steps: int = pydantic.Field(7, gt=0, description="of projected gradient ascent")
    norm: Norm = "linf"


class Train(Options):
    """How long and how fast."""

    epochs: float = pydantic.Field(5, gt=0)
    max_steps: int | None = pydantic.Field(None, gt=0, description="stop after so many steps")
    batch_size: int = pydantic.Field(
        64, gt=0, description="pairs a step, of all processes together"
    )
    sampler: SamplerTerm = pydantic.Field(
        SamplerTerm(),
        description="which rows make a batch: shuffled, no_duplicates, by_length or classes",
    )
    chunk: int | None = pydantic.Field(
        None, gt=0, description="items a tower embeds at a time; null: all of a step's at once"
    )
    learning_rate: float = pydantic.Field(1e-3, gt=0)
    weight_decay: float = pydantic.Field(0.01, ge=0)
    warmup: float = pydantic.Field(0.05, ge=0, lt=1, description="share of all steps")
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    optimizer: str = pydantic.Field(
        "adamw_torch_fused", description="as transformers' `optim` has it: adafactor, sgd …"
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = pydantic.Field(False, description="compile the layers of encoders that learn")
    gradient_checkpointing: bool = pydantic.Field(
        False, description="compute what layers hold for backward twice: less memory, more time"
    )
    adversarial: AdversarialTerm | None = pydantic.Field(
        None, description="train on inputs changed to raise the loss: {epsilon: 4, steps: 7}"
    )
    evaluations: int = pydantic.Field(5, gt=0, description="how often in all to look at validation")
    patience: int | None = pydantic.Field(
        None, gt=0, description="stop when so many evaluations in a row were no better"
    )
    seed: int = 0

    @pydantic.model_validator(mode="after")
    def _whole_classes(self) -> Self:
        each = self.sampler.per_class
        if each is not None and self.batch_size % each:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of sampler.per_class {each}"
            )
        return self


class LossTerm(Term):
    """One loss by name, and what it counts."""

    weight: float = pydantic.Field(1.0, gt=0)


def _as_list(value: Any) -> Any:
    """``infonce``, ``{name: infonce}`` and a list of either all mean a list of terms."""
    return value if isinstance(value, list) else [value]


class Recipe(Options):
    """The whole of a task. ``Recipe.read(path)`` reads one; ``to_yaml`` gives it as text again."""

    name: str = pydantic.Field(
        "run", pattern=r"^[^/\\.][^/\\]*$", description="also the run's folder"
    )
    data: Data
    columns: dict[str, str] = pydantic.Field(min_length=1, description="column: tower, in order")
    towers: dict[str, dict[str, Any]] = pydantic.Field(min_length=1)
    loss: Annotated[list[LossTerm], pydantic.BeforeValidator(_as_list)] = pydantic.Field([])
    train: Train = Train()
    decision: Decision = pydantic.Field(
        Decision(), description="what pairs are called, as by msiam match"
    )
    evaluate: Annotated[list[Term], pydantic.BeforeValidator(_as_list)] = pydantic.Field([])

    @pydantic.model_validator(mode="before")
    @classmethod
    def _classes_of_all_columns(cls, content: Any) -> Any:
        """``classes: label`` means that column of the table for every column that is not drawn.

        So does a list of columns.
        """
        data, columns = content.get("data"), content.get("columns")
        if isinstance(data, dict) and isinstance(columns, dict):
            classes = data.get("classes")
            if isinstance(classes, str | list):
                drawn = data.get("draw") or {}
                read = [column for column in columns if column not in drawn]
                content = content | {"data": data | {"classes": dict.fromkeys(read, classes)}}
        return content

    @classmethod
    def parse(cls, content: Any, where: str = "recipe") -> Recipe:
        """Validate a recipe given as plain data.

        Raises:
            RecipeError: an unknown key (with the nearest), a value that is not allowed.
        """
        if not isinstance(content, dict):
            raise RecipeError(f"{where}: is no recipe; it must be keys and values, with {_keys()}")
        try:
            recipe = cls.model_validate(content)
        except pydantic.ValidationError as error:
            raise RecipeError(explain(error, cls, where)) from error
        if fault := recipe.data.fault(recipe.columns):
            raise RecipeError(f"{where}: {fault}")
        return recipe._with_defaults()

    @classmethod
    def read(cls, path: str | Path, overrides: list[str] | None = None) -> Recipe:
        """Read a recipe's file and apply ``key.key=value`` overrides.

        Raises:
            RecipeError: no such file, no YAML, or as ``parse``; the message names file and key.
        """
        path = Path(path)
        if not path.is_file():
            near = [p.name for p in path.parent.glob("*.yaml")]
            instead = one_of(path.name, near) if near else f"{path.parent} has no .yaml"
            raise RecipeError(f"{path}: no such recipe; {instead}")
        if path.suffix not in (".yaml", ".yml"):
            raise RecipeError(
                f"{path}: a recipe is a .yaml file; to train on a table without one: "
                f"msiam train --data {path} --columns NAME=ENCODER,NAME=ENCODER"
            )
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
        if isinstance(content, dict):
            content.setdefault("name", path.stem.lstrip("."))
            for override in overrides or []:
                apply_override(content, override)
        return cls.parse(content, str(path))

    def _with_defaults(self) -> Recipe:
        """Name what was left open, so that a run's recipe says all that was done."""
        loss, evaluator = DEFAULTS[self.data.kind]
        if self.data.score is not None and len(self.columns) == 3:
            loss = "margin_mse"
        if self.data.draw:
            loss = OF_DRAWN.get(len(self.columns), "tuple")
        update: dict[str, Any] = {}
        if not self.loss:
            update["loss"] = [LossTerm(name=loss)]
        if not self.evaluate:
            update["evaluate"] = [Term(name=evaluator)]
        if self.data.split.by is None:
            split = self.data.split.model_copy(update={"by": self.data.split_by})
            update["data"] = self.data.model_copy(update={"split": split})
        return self.model_copy(update=update)

    def to_yaml(self) -> str:
        content = self.model_dump()
        for section in ("data", "train"):  # elsewhere, null is a value like any other
            content[section] = {k: v for k, v in content[section].items() if v is not None}
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _keys() -> str:
    return ", ".join(Recipe.model_fields)


def apply_override(content: Any, override: str) -> None:
    """Set one key of a recipe's data: ``train.epochs=3``. The value is read as YAML.

    ``towers.NAME.encoder=OTHER`` swaps the encoder, and so drops the options of the old one.

    Raises:
        RecipeError: no ``=``, or a key that leads through something that has no keys.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: write it as key=value, for example train.epochs=3")
    *path, last = key.split(".")
    place = content
    for part in path:
        if isinstance(place, dict):
            place.setdefault(part, {})
            if part in TERMS and isinstance(place[part], str):
                place[part] = {"name": place[part]}
        place = _only(place, part)
        place = place[_step(place, part, override)]
    place = _only(place, last)
    step, value = _step(place, last, override), scalar(text)
    if len(path) == 2 and path[0] == "towers" and last == "encoder" and place.get(last) != value:
        for option in set(place) - KEPT:
            del place[option]
    place[step] = value


#: What may be given by its name alone.
TERMS = ("loss", "evaluate", "sampler", "miner")

#: What a tower keeps when its encoder is swapped. The rest, the learning rate, where it begins and
#: whether it is frozen as well, was chosen for the old one.
KEPT = {"encoder", "dim", "head", "normalize"}


def _only(place: Any, part: str) -> Any:
    """The only term of a list, such as the loss that a run's recipe lists, if it may have a key."""
    alone = isinstance(place, list) and len(place) == 1 and isinstance(place[0], dict)
    return place[0] if alone and not part.lstrip("-").isdigit() else place


def _step(place: Any, part: str, override: str) -> str | int:
    """How ``part`` of a dotted key is looked up in what the key has led to so far."""
    if isinstance(place, dict):
        return part
    if not isinstance(place, list):
        raise RecipeError(f"--set {override}: '{part}' leads nowhere; what is above it has no keys")
    if not part.isdigit() or int(part) >= len(place):
        raise RecipeError(
            f"--set {override}: '{part}' must be a number below {len(place)}, of a list"
        )
    return int(part)


def scalar(text: str) -> Any:
    """A value as the command line gives it, read as YAML: 3, 0.5, true, a word, [a, list]."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
