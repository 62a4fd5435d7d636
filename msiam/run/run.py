"""A run, opened: the model with its recipe, its figures and its threshold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from msiam.errors import DataError, ModelError, RunError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.words import effects_on
from msiam.gallery.gallery import Gallery
from msiam.progress import QUIET, items_bar
from msiam.recipe import GIVEN, Recipe
from msiam.run.folder import RunFolder
from msiam.towers.device import pick_device
from msiam.towers.model import Model

if TYPE_CHECKING:
    from msiam.data.parts import Parts
    from msiam.data.sources import Source


@dataclass(frozen=True)
class Match:
    """How two items belong together, by what was chosen on validation pairs.

    The threshold is that of the best accuracy, and the probability is a smooth curve, which need
    not be ½ there.
    """

    similarity: float
    same: bool
    probability: float
    threshold: float
    probability_at_threshold: float


@dataclass
class Run:
    """A trained model with everything that its folder holds."""

    folder: RunFolder
    model: Model
    recipe: Recipe | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: Calibration | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r}, columns: {', '.join(self.model.columns)})"

    def encode(self, columns: Mapping[str, Sequence[Any]], **how: Any) -> dict[str, np.ndarray]:
        """Embed items by column; see ``Model.encode``."""
        return self.model.encode(columns, **how)

    def match(self, a: Any, b: Any) -> Match:
        """How similar two items are, the same or not, and how sure.

        Each item goes through the first column that reads it, and not both through one column
        where another reads the second as well. In a model of one column both go through that.

        Raises:
            RunError: a bare model has no threshold.
            DataError: no column reads an item; both are of one column, as two pictures are in a
                model of names and pictures, for which the threshold was not made.
        """
        if self.calibration is None:
            raise RunError(
                f"{self.folder.path}: a model alone has no threshold; give a run's folder"
            )
        one, other = self._columns_of(a, b)
        left = self.model.encode({one: [a]})[one][0]
        right = self.model.encode({other: [b]})[other][0]
        similarity = float(left @ right)
        return Match(
            similarity=similarity,
            same=bool(self.calibration.same(similarity)),
            probability=float(self.calibration.probability(similarity)),
            threshold=self.calibration.threshold,
            probability_at_threshold=float(
                self.calibration.probability(self.calibration.threshold)
            ),
        )

    def _columns_of(self, a: Any, b: Any) -> tuple[str, str]:
        one = self.model.column_for(a)
        other = self.model.column_for(b, but=one)
        if one == other and len(self.model.columns) > 1:
            pair = " ↔ ".join(self.model.columns)
            raise DataError(
                f"both items go through column '{one}', and this model's threshold is for {pair}; "
                "give one of each"
            )
        return one, other

    def words(self, a: Any, b: Any) -> list[list[tuple[str, float]]]:
        """Of each of two items its words and what each adds to their similarity.

        See ``msiam.evaluation.words``. An item that is no text has no words.

        Raises:
            DataError: as ``match``.
        """
        one, other = self._columns_of(a, b)
        vectors = [self.model.encode({c: [item]})[c][0] for c, item in ((one, a), (other, b))]
        return [
            effects_on(self.model, one, a, vectors[1]),
            effects_on(self.model, other, b, vectors[0]),
        ]

    def evaluate(
        self,
        table: Source | None = None,
        *,
        report: Path | None = None,
        allow_rejected: bool = False,
        console: Console = QUIET,
    ) -> dict[str, dict[str, float]]:
        """The figures on the run's own held-out part, or on another table."""
        # Opening tables takes the library datasets, which searching and matching do without.
        from msiam.data.parts import test_part, training_parts
        from msiam.data.shares import UNSEEN
        from msiam.evaluation.measure import build_evaluators, columns_read, measure_parts
        from msiam.run.report import report_run

        if self.recipe is None:
            raise RunError(f"{self.folder.path}: a model alone has no recipe; give a run's folder")
        data = self.recipe.data
        evaluators = build_evaluators(self.recipe.evaluate)
        reads = columns_read(evaluators)
        if table is not None:
            parts = test_part(data, self.model, table, reads)
        elif GIVEN in (data.table, data.test):
            raise RunError(
                f"{self.folder.path}: was trained on rows given from Python; give a table"
            )
        else:
            parts = training_parts(data, self.model, self.recipe.train.seed, reads=reads)
            check_rows(
                self.folder, parts, f"give the table: msiam evaluate {self.folder.path} TABLE"
            )
            measured = (parts.held_out, UNSEEN)
            parts.examples = {p: rows for p, rows in parts.examples.items() if p in measured}
        rejected = self.folder.path / "evaluation-rejected.csv"
        prepare_items(parts, self.model, rejected, allow_rejected, console)
        with items_bar(console, "evaluating") as progress:
            found = measure_parts(self.model, parts, evaluators, self.calibration, progress)
        if report is not None:
            report_run(report, self, parts, found, [], "", rejected)
        return found.metrics


def load(folder: str | Path) -> Run:
    """Open a run's folder, or a folder that ``Model.save`` wrote.

    Raises:
        ModelError: a file is missing, changed, or a pickle.
        RunError: there is no run and no model, or training has not finished; a file is damaged.
    """
    place = RunFolder(folder)
    if not place.recipe.is_file():
        return Run(place, Model.load(place.path).to(pick_device()))
    if not place.finished:
        raise RunError(
            f"{place.path}: training has not finished; go on with msiam train … --resume"
        )
    return Run(
        place,
        Model.load(place.model).to(pick_device()),
        Recipe.read(place.recipe),
        _said(place.metrics, json.loads),
        _said(place.calibration, Calibration.from_json),
    )


def _said(file: Path, parse: Callable[[str], Any]) -> Any:
    """What a file of a run says.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{file}: is missing; copy the whole run again") from error
    except (ValueError, ModelError) as error:
        raise RunError(f"{file}: is damaged ({error}); copy the whole run again") from error


def open_gallery(folder: str | Path, run: str | Path | None = None) -> Gallery:
    """Open a gallery with the model that made it: ``run``, or where it was built from.

    A run's decision threshold comes with it.

    Raises:
        GalleryError: no gallery, a damaged one, or one that another model made.
        RunError: the run it was built from is not there any more.
    """
    return open_with_run(folder, run)[0]


def open_with_run(folder: str | Path, run: str | Path | None = None) -> tuple[Gallery, Run]:
    """A gallery as ``open_gallery`` opens it, and the run that made it."""
    gallery = Gallery.open(folder)
    place = Path(run) if run is not None else gallery.run
    if place is None:
        raise RunError(f"{folder}: was built from a model alone; name its run with --run")
    if not place.is_dir():
        raise RunError(f"{folder}: its run is not at {place}; name it with --run")
    opened = load(place)
    if opened.calibration is not None:
        gallery.threshold = opened.calibration.threshold
    return gallery.attach(opened.model), opened


def check_rows(place: RunFolder, parts: Parts, instead: str) -> None:
    """Raise unless the parts are those that the run was begun with.

    Rows that were added or moved since would be dealt out anew, training rows to the test.

    Raises:
        RunError: they are not; the message ends with what to do instead.
    """
    begun = _said(place.data, json.loads) if place.data.is_file() else {}
    if begun.get("digest") != parts.digest():
        raise RunError(
            f"{place.path}: its tables have changed since it was begun, so that its held-out rows "
            f"are not known any more; {instead}"
        )


def prepare_items(
    parts: Parts, model: Model, rejected: Path, allow: bool, console: Console
) -> None:
    """``data.parts.prepare`` behind a progress bar."""
    from msiam.data.parts import prepare

    passes = {name: 2 if model.tower(name).frozen else 1 for name in model.leaders}
    total = sum(len(parts.items[name].values) * times for name, times in passes.items())
    with items_bar(console, "preparing", total) as progress:
        prepare(parts, model, rejected, allow, progress)
    if parts.rejected:
        rows = len({(entry.table, entry.row) for entry in parts.rejected})
        console.print(f"{rows:,} rows are set aside: {rejected}", highlight=False, soft_wrap=True)
