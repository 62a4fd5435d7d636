"""Opens a table: a file, a folder of pictures, rows in memory, or a data set of the Hub.

Pictures are never decoded here; they stay ``{"bytes", "path"}``.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pandas
import pyarrow as pa

from msiam.data.archives import unpacked
from msiam.data.files import from_arrow, from_rows
from msiam.data.files import read_csv as read_csv
from msiam.data.files import read_imagefolder as read_imagefolder
from msiam.data.files import read_json as read_json
from msiam.data.files import read_parquet as read_parquet
from msiam.errors import DataError, RecipeError, one_of
from msiam.paths import resolve
from msiam.registry import Spec, registry
from msiam.registry.options import Term, parse_options

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:\w+)?")


@dataclass(frozen=True)
class Table:
    """An open table.

    Attributes:
        dataset: its rows; pictures undecoded.
        name: the table as the user wrote it, for messages.
        root: the folder in which relative file names are looked for; None: where msiam runs.
    """

    dataset: datasets.Dataset
    name: str
    root: Path | None

    def __len__(self) -> int:
        return len(self.dataset)

    def require(self, column: str) -> None:
        """Raise unless there is such a column.

        Raises:
            DataError: there is none; the message has the nearest.
        """
        require_column(self.name, column, self.dataset.column_names)

    def select(self, rows: Sequence[int]) -> Table:
        """Some of its rows, in this order."""
        return dataclasses.replace(self, dataset=self.dataset.select(rows))

    def values(self, column: str) -> list[Any]:
        """All values of a column.

        Raises:
            DataError: there is no such column.
        """
        self.require(column)
        return self.dataset[column][:]


Source: TypeAlias = (
    str | Path | Term | list[dict[str, Any]] | datasets.Dataset | pandas.DataFrame | Table
)


def open_table(source: Source) -> Table:
    """Open a table.

    Args:
        source: a file (csv, tsv, json, jsonl, parquet, a zipped ImageFolder, or what a plugin
            reads), a folder of pictures with its metadata.csv, a list of dicts, a
            ``datasets.Dataset``, a ``pandas.DataFrame``, ``org/name[:split]`` on the Hub, a
            source that makes its rows, by its name and with its options, or a table that is open
            already.

    Raises:
        DataError: there is no such file, nothing reads its suffix, it cannot be read, or it has
            no rows.
        RecipeError: a source has no such option.
        PluginError: there is no source of that name.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, str | Path):
        table = _open_named(str(source))
    elif isinstance(source, Term):
        table = Table(_made(source), source.name, None)
    elif isinstance(source, datasets.Dataset):
        table = Table(source, "the given dataset", None)
    elif isinstance(source, pandas.DataFrame):
        name = "the given DataFrame"
        with reading(name):
            arrow = pa.Table.from_pandas(source, preserve_index=False)
            table = Table(from_arrow(arrow), name, None)
    elif isinstance(source, list):
        table = Table(from_rows(source, "the given list"), "the given list", None)
    else:
        raise DataError(
            f"{type(source).__name__} is no table; give a file's path, a list of dicts, "
            "a datasets.Dataset or a pandas.DataFrame"
        )
    if len(table) == 0:
        raise DataError(f"{table.name}: has no rows; give a table with at least one")
    with reading(table.name):
        return Table(_undecoded(table.dataset), table.name, table.root)


def require_column(name: str, column: str, known: list[str]) -> None:
    """Raise unless a table has a column.

    Raises:
        DataError: it has none; the message has the nearest.
    """
    if column not in known:
        hint = ""
        if len(known) == 1 and ";" in known[0]:
            hint = " It seems to be cut by semicolons; save it with commas, or as .tsv with tabs."
        raise DataError(f"{name}: no column '{column}'; {one_of(column, known)}{hint}")


def reader_of(path: Path) -> Spec | None:
    """What reads a folder, or files of this suffix."""
    if path.is_dir():
        return registry().find("source", "imagefolder")
    readers = _readers()
    return next((readers[s] for s in readers if path.name.lower().endswith(s)), None)


def _readers() -> dict[str, Spec]:
    return {suffix: s for s in registry().specs("source") for suffix in s.facts["suffixes"]}


def _open_named(name: str) -> Table:
    path = resolve(name)
    reader = reader_of(path)
    if not path.exists():
        if reader is None and _HUB_NAME.fullmatch(name) and not path.parent.is_dir():
            return Table(_from_hub(name), name, None)
        raise DataError(f"{name}: no such file{_nearest(path)}")
    if reader is None:
        suffix = path.suffix
        raise DataError(
            f"{name}: nothing reads '{suffix}' files; {one_of(suffix.lower(), _readers())}"
        )
    return Table(_read(reader, path, name), name, path if path.is_dir() else path.parent)


def _made(term: Term) -> datasets.Dataset:
    """The rows that a source makes as its options say."""
    spec = registry().find("source", term.name, "data.table.name")
    source = spec.load()
    if not hasattr(source, "Options"):
        raise RecipeError(
            f"data.table.name: {term.name} takes no options, and reads files "
            f"({', '.join(spec.facts['suffixes'])}): give one's path as data.table"
        )
    made = source(parse_options(source, term.options, f"data.table ({term.name})"))
    with reading(term.name):
        return made.read()


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; nor is there a folder {path.parent}"
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f" in {path.parent}" + (f"; did you mean '{near[0]}'?" if near else "")


def _read(reader: Spec, path: Path, name: str) -> datasets.Dataset:
    with reading(name):
        return reader.load()(path)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what the libraries say of an unreadable table into one line that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: is not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8"
        ) from error
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        csv.Error,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error


def _from_hub(name: str) -> datasets.Dataset:
    repository, _, split = name.partition(":")
    try:
        return datasets.load_dataset(repository, split=split or "train")
    except Exception as error:  # the Hub fails in many ways; each is the user's to know
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: no such file, and as a data set of the Hub it cannot be loaded: {reason}"
        ) from error


def _undecoded(dataset: datasets.Dataset) -> datasets.Dataset:
    dataset = dataset.with_format(None)
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.Image) and feature.decode:
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
        if isinstance(feature, datasets.Image):
            dataset = unpacked(dataset, column)
    return dataset
