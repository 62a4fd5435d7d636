"""A recipe's ``data``: where the rows come from, what is said of them, what is held out."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal

import pydantic

from msiam.errors import one_of
from msiam.registry.options import Options, Term


def _one_value(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be one value of the column: a number, a text, true or false")
    return value


class Label(Options):
    """Which column says whether a pair belongs together, and which of its values means "same".

    Of one column with classes: whether the item belongs to the class that its row names, as a
    genuine signature does and a forged one does not.
    """

    column: str
    # As written: 1 stays a number and "1" a text.
    same: Annotated[bool | int | float | str, pydantic.PlainValidator(_one_value)]


class Score(Options):
    """Which column says how alike a pair is, and from which score on it belongs together.

    Of three columns (anchor, positive, negative) the score is a teacher's margin, how much more
    alike the first two are than the first and the third, and has no ``same``.
    """

    column: str
    same: float | None = None


#: What a drawn column holds, of the first column's item: that item itself, another of its class,
#: or one of another class.
Drawn = Literal["itself", "same", "other"]

#: How a pair that is different comes of a row whose items belong together.
Swap = Literal["random", "bm25"]


class Decision(Options):
    """What a pair is called that belongs together, and one that does not."""

    same: str = pydantic.Field("same", min_length=1)
    different: str = pydantic.Field("not the same", min_length=1)


def _shares_or_names(value: Any) -> Any:
    if isinstance(value, list):
        return [_one_value(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(
            "must be a share, a number of rows, or a list of values of the column in 'by'"
        )
    return float(value)


#: What is held out: a share, from 1 on a number, or the very values of a column.
Held = Annotated[float | list[bool | int | float | str], pydantic.PlainValidator(_shares_or_names)]


class Split(Options):
    """What is held out of the table: a share of its rows, or from 1 on a number of rows.

    By a column, a share or a number of its values, or these themselves.
    """

    validation: Held = pydantic.Field(0.1)
    test: Held = pydantic.Field(0.1)
    unseen: float = pydantic.Field(
        0.0,
        ge=0,
        description="a further part to measure: a share or a number of the rows, in whole classes "
        "that no other part has; with by: item",
    )
    train: float = pydantic.Field(
        1.0, gt=0, le=1, description="share of the rows left for training that is trained on"
    )
    by: str | None = pydantic.Field(
        None,
        description="what no two parts share: of data with classes, whole classes (class: none of "
        "the test's is ever seen in training), else items (item); or a column of the table, whose "
        "values are then what is counted, or named",
    )

    @pydantic.field_validator("validation")
    @classmethod
    def _some(cls, value: Held) -> Held:
        if not value:
            raise ValueError("training watches a held-out part: must be above 0")
        return value

    @property
    def named(self) -> list[str]:
        """The parts whose values are named."""
        parts = {"validation": self.validation, "test": self.test}
        return [part for part, held in parts.items() if isinstance(held, list)]


class Data(Options):
    """Where the rows come from. At most one of label, score and classes says more of them.

    One column of classes may have a label as well: which items are members of their class.
    """

    table: str | Term = pydantic.Field(
        description="a file, a hub's data set, or a source by its name, with its options"
    )
    more: str | Term | None = pydantic.Field(
        None, description="a second table, for training alone; of labelled pairs, positive ones"
    )
    test: str | Term | None = pydantic.Field(
        None, description="a held-out table, in place of split.test"
    )
    label: Label | None = pydantic.Field(
        None, description="for tables of labelled pairs; or which items are of their class at all"
    )
    score: Annotated[
        Score | None,
        pydantic.BeforeValidator(lambda v: {"column": v} if isinstance(v, str) else v),
    ] = pydantic.Field(None, description="for tables of scored pairs, or of a teacher's margins")
    classes: dict[str, str | list[str]] | None = pydantic.Field(
        None,
        description="column: the table's column with its items' classes, or several columns, of "
        "which each combination is a class",
    )
    negatives: dict[str, Swap] | None = pydantic.Field(
        None,
        description="kinds of different pairs, made of rows that all belong together by swapping "
        "their second items: with one at random, or with that of most alike words (bm25)",
    )
    draw: dict[str, Drawn] = pydantic.Field(
        {},
        description="columns that the table lacks: each holds, of the first column's item, that "
        "item itself (another view of it), another of its class (same), or one of another class "
        "(other), drawn anew each time",
    )
    split: Split = Split()

    @property
    def kind(self) -> str | None:
        """What is said of the rows, by its key: "label", "score" or "classes"."""
        if self.classes is not None:
            return "classes"
        return next((key for key in KINDS if getattr(self, key) is not None), None)

    @property
    def targets(self) -> set[str]:
        """What is said of the rows; see ``msiam.losses.base.Given``."""
        if set(self.draw.values()) & {"same", "other"}:
            return set()  # the classes have said which items belong together; so do the rows now
        if self.classes is not None:
            # Two classes may differ or not, which labels the pair; of more, no pair is the row's.
            return {"classes", "labels"} if len(self.classes) == 2 else {"classes"}
        if self.score is not None:
            return {"scores"} if self.score.same is None else {"scores", "labels"}
        return {"labels"} if self.label is not None else set()

    @property
    def class_columns(self) -> set[str]:
        """The table's columns that say which class an item is of."""
        found = (self.classes or {}).values()
        return {name for one in found for name in ([one] if isinstance(one, str) else one)}

    @property
    def split_by(self) -> str:
        """What no two parts share: "class", "item", or the values of that column."""
        return self.split.by or ("item" if self.classes is None else "class")

    def read(self, columns: Collection[str]) -> list[str]:
        """Those of the model's columns that the table has; the others are drawn."""
        return [column for column in columns if column not in self.draw]

    def source(self, column: str, columns: Collection[str]) -> str:
        """The table's column that holds a column's items: that is the first one for views of it."""
        return next(iter(columns)) if column in self.draw else column

    def fault(self, columns: Collection[str]) -> str | None:
        """What does not fit together here, or with the model's columns: a key and a sentence."""
        said = [key for key in KINDS if getattr(self, key) is not None]
        if len(columns) == 1 and said == ["label", "classes"]:  # which items are of their class
            said = ["classes"]
        if len(said) > 1:
            return f"data: found {' and '.join(said)}; rows have one of them: leave the other out"
        if self.negatives is not None and (said or len(columns) != 2):
            found = said[0] if said else f"{len(columns)} columns"
            return (
                f"data.negatives: found with {found}; different pairs are made of two columns all "
                "of whose rows belong together: leave it out"
            )
        if self.draw and (fault := _draw_fault(self, columns)):
            return fault
        if self.split.unseen and (self.classes is None or self.split.by != "item"):
            return (
                f"data.split.unseen: found {self.split.unseen:g}; it holds whole classes out, "
                "beside a split by items: it takes data.classes and data.split.by: item"
            )
        if self.split.named and self.split_by in ("class", "item"):
            return (
                f"data.split.{self.split.named[0]}: found a list, which names values of a column; "
                "say of which: add 'by: COLUMN' to data.split"
            )
        if len(columns) == 1 and self.classes is None:
            return (
                f"columns: found '{next(iter(columns))}' alone; one column learns from classes: "
                "add 'classes: COLUMN' to data (--classes COLUMN), or give the columns of a pair"
            )
        if self.split.by == "class" and self.classes is None:
            return "data.split.by: found 'class'; there are none without data.classes"
        if self.classes is not None:
            return _classes_fault(self.classes, self.read(columns))
        return None if self.score is None else _score_fault(self.score, columns)


#: What may be said of rows, each by its key.
KINDS = ("label", "score", "classes")


def _classes_fault(classes: dict[str, str | list[str]], columns: Collection[str]) -> str | None:
    for column, sources in classes.items():
        if not sources:
            return f"data.classes.{column}: found no column; give one, or a list of several"
        if column not in columns:
            return f"data.classes.{column}: no such column of the model; {one_of(column, columns)}"
    for column in columns:
        if column not in classes:
            return (
                f"data.classes: says nothing of column '{column}'; add '{column}: COLUMN', the "
                "table's column with the classes of its items"
            )
    return None


def _draw_fault(data: Data, columns: Collection[str]) -> str | None:
    first, *others = columns
    for column in data.draw:
        if column not in others:
            return (
                f"data.draw.{column}: must be a column of the model behind the first, '{first}', "
                f"by which it is drawn; {one_of(column, others)}"
            )
    for column in others:
        if column not in data.draw:
            return (
                f"data.draw: says nothing of column '{column}'; where any are drawn, all but the "
                f"first, '{first}', are: add '{column}: itself', same or other"
            )
    for key in ("label", "score", "negatives"):
        if getattr(data, key) is not None:
            return f"data.draw: found with {key}, which says what drawing says; leave it out"
    by_class = [column for column, how in data.draw.items() if how != "itself"]
    if by_class and data.classes is None:
        column = by_class[0]
        return (
            f"data.draw.{column}: found '{data.draw[column]}', and there are no classes to draw "
            "by; add 'classes: COLUMN' to data, or draw itself"
        )
    return None


def _score_fault(score: Score, columns: Collection[str]) -> str | None:
    if len(columns) > 3:
        return f"data.score: belongs to two columns or three; the recipe has {len(columns)}"
    if len(columns) == 2 and score.same is None:
        return (
            "data.score.same: is missing, and has no default: from which score on does a pair "
            "belong together? Write 'score: {column: ..., same: ...}' (--score COLUMN=NUMBER)"
        )
    if len(columns) == 3 and score.same is not None:
        return (
            f"data.score.same: found {score.same:g}; of three columns the score is a margin, which "
            "says nothing of same: leave it out"
        )
    return None
