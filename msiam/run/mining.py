"""Hard negatives for a run's table: what is mined, embedded, searched for and put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from rich.console import Console

from msiam.data.sources import Source, open_table
from msiam.data.streams import place_of
from msiam.errors import GalleryError, RecipeError, RunError, one_of
from msiam.gallery.gallery import Gallery
from msiam.mining.negatives import Rules
from msiam.paths import check_apart, check_place, resolve
from msiam.progress import QUIET
from msiam.recipe import GIVEN, Data
from msiam.registry.options import Term
from msiam.run.mineable import own_part, whole_table
from msiam.run.mined import Mined, check_suffix, names_of
from msiam.run.negative_search import NegativeSearch
from msiam.run.run import Run, load
from msiam.towers.model import Model


def mine(
    run: Run | str | Path,
    table: Source | None = None,
    *,
    anchor: str | None = None,
    positive: str | None = None,
    gallery: str | Path | None = None,
    wide: bool = False,
    allow_rejected: bool = False,
    console: Console = QUIET,
    **rules: Any,
) -> datasets.Dataset:
    """Hard negatives for each positive pair, as a data set that a recipe trains on.

    Args:
        run: a run, or its folder.
        table: the pairs, labelled or scored as the run's recipe says, or items with classes; None:
            the training part of the run's own table, so that nothing held out gets into it. A
            table that is given is mined as a whole.
        anchor, positive: the columns to mine from and to; the model's first and second.
        gallery: an existing gallery whose records are the candidates; None: the distinct items of
            the column ``positive``.
        wide: a row a pair with all of its negatives; pairs with fewer are left out.
        rules: the fields of ``msiam.mining.negatives.Rules``: ``negatives=5``, ``range=100``,
            ``skip``, ``max_score``, ``margin``, ``relative_margin``, ``sample``, ``seed``.

    Returns:
        Three columns: the anchor's and the positive's by their own names, and ``negative`` (wide:
        ``negative_1`` …). Each triplet is a row, in the order of the table.

    Raises:
        MsiamError: what is asked for cannot be; the message says what would be right.
    """
    found = mine_run(
        run, table, anchor, positive, gallery, wide, None, allow_rejected, console, rules
    )
    return found.dataset()


def mine_run(
    run: Run | str | Path,
    table: Source | None,
    anchor: str | None,
    positive: str | None,
    gallery: str | Path | None,
    wide: bool,
    out: Path | None,
    allow_rejected: bool,
    console: Console,
    rules: Mapping[str, Any],
) -> Mined:
    """``mine``, written to ``out`` as well where that is given; with what it came to."""
    parsed = Rules.parse(rules)
    if out is not None:
        check_suffix(out)
        check_place(out)
    run = run if isinstance(run, Run) else load(run)
    if run.recipe is None:
        raise RunError(f"{run.folder.path}: a model alone has no recipe; give a run's folder")
    rejected = (
        run.folder.path / "mining-rejected.csv"
        if out is None
        else out.with_name(f"{out.stem}-rejected.csv")
    )
    if out is not None:
        _check_apart(out, rejected, table, run.recipe.data)
    model = run.model
    columns = _direction(model, run.recipe.data, anchor, positive)
    names = names_of(*columns, list(model.columns), parsed.negatives, wide)
    opened = None if gallery is None else _open(Path(gallery), model, columns[1])
    if table is None:
        data = own_part(run, run.recipe)
    else:
        data = whole_table(open_table(table), run.recipe, model, columns)
        if isinstance(table, str | Path) and _same_place(table, run.recipe.data.table):
            console.print(
                f"{table}: is the run's own table, and mined as a whole: what the run held out is "
                "in it; leave the table out, and the training part alone is mined",
                style="yellow",
                soft_wrap=True,
            )
    search = NegativeSearch(model, data, columns, opened, parsed)
    if out is not None:
        search.check(out)
    mined = search.mine(names, wide, rejected, allow_rejected, console)
    if out is not None:
        mined.write(out)
    return mined


def _direction(
    model: Model, data: Data, anchor: str | None, positive: str | None
) -> tuple[str, str]:
    """The columns to mine from and to: of those that the table has, and are not drawn."""
    known = data.read(model.columns)
    for column in (anchor, positive):
        if column is not None and column not in known:
            raise RecipeError(f"mine: the table has no column '{column}'; {one_of(column, known)}")
    one = anchor or next((c for c in known if c != positive), known[0])
    other = positive or next((c for c in known if c != one), one)
    if one == other and len(known) > 1:
        raise RecipeError(f"mine: found '{one}' twice; mine from one column to another")
    return one, other


def _check_apart(out: Path, rejected: Path, table: Source | None, data: Data) -> None:
    """Raise where what is written would take the place of a table that is read."""
    own = [one for one in (data.table, data.more, data.test) if one is not None]
    for source in own if table is None else [table]:
        check_apart(place_of(source), out, rejected)


def _same_place(table: str | Path, other: str | Term) -> bool:
    if not isinstance(other, str) or other == GIVEN:
        return False
    return resolve(table).resolve() == resolve(other).resolve()


def _open(folder: Path, model: Model, column: str) -> Gallery:
    gallery = Gallery.open(folder, model)
    held = gallery.manifest.column
    if model.columns[held] != model.columns[column]:
        raise GalleryError(
            f"{folder}: holds '{held}', and negatives for column '{column}' are asked for; mine "
            f"to '{held}', or leave the gallery out"
        )
    return gallery
