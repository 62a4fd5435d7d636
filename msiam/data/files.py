"""The core's readers of tables: a function (path) -> datasets.Dataset for each kind of file.

Everything is read into memory by pyarrow: nothing is written to the user's cache.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from msiam.data.archives import pictures, read_pictures
from msiam.errors import DataError, one_of

METADATA = "metadata.csv"

# "007" is a name and "nan" is a text; a number may be written with more zeros than it needs.
NUMBER = {
    pa.int64(): r"^-?(0|[1-9][0-9]*)$",
    pa.float64(): r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$",
}


def read_parquet(path: Path) -> datasets.Dataset:
    """A .parquet file, with the features that ``datasets`` or pandas noted in it."""
    return from_arrow(pyarrow.parquet.read_table(path))


def read_csv(path: Path) -> datasets.Dataset:
    """A .csv or .tsv in UTF-8 with a header. A column of numbers becomes numbers; all else is text.

    No text stands for null ("NA" and "null" are texts); an empty cell among numbers does.

    Raises:
        DataError: no header, or a row with too many or too few cells; the message has its line.
    """
    return _parse_csv(path.read_bytes(), str(path), "\t" if path.suffix.lower() == ".tsv" else ",")


def read_json(path: Path) -> datasets.Dataset:
    """A .json or .jsonl file in UTF-8: one list of objects, or an object a line.

    Raises:
        DataError: a line that is no JSON, an entry that is no object.
    """
    text = path.read_text(encoding="utf-8-sig")
    rows = []
    if text.lstrip().startswith("["):
        rows = json.loads(text)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}: line {number} is no JSON: {error.msg}") from error
    return from_rows(rows, str(path))


def read_imagefolder(path: Path) -> datasets.Dataset:
    """A folder or a zip with a metadata.csv, whose ``file_name`` names a picture beside it.

    The rows are those of metadata.csv, with a column ``image`` of ``{"bytes", "path"}``. Pictures
    in a folder are named and not yet read. An archive is opened once and read in storage order
    into memory, since its pictures one by one take minutes.

    Raises:
        DataError: no metadata.csv or several, no column file_name, a damaged archive.
    """
    if path.is_dir():
        found = [sheet.relative_to(path).as_posix() for sheet in path.rglob(METADATA)]
        sheet = path.resolve() / _only_sheet(found, path)
        rows = read_csv(sheet)
        names = _file_names(rows, sheet)
        named = [{"bytes": None, "path": str(sheet.parent / name)} for name in names]
        return _with_images(rows, pictures(named))
    with zipfile.ZipFile(path) as archive:
        rows, names = archive_sheet(archive, path)
        return _with_images(rows, read_pictures(archive, names, path))


def archive_sheet(archive: zipfile.ZipFile, path: Path) -> tuple[datasets.Dataset, list[str]]:
    """The rows of an archive's metadata.csv, and the member that each of them names.

    Raises:
        DataError: no metadata.csv or several, no column file_name.
    """
    found = [n for n in archive.namelist() if posixpath.basename(n) == METADATA]
    inside = _only_sheet(found, path)
    rows = _parse_csv(archive.read(inside), f"{path}/{inside}", ",")
    folder = posixpath.dirname(inside)
    return rows, [
        posixpath.normpath(posixpath.join(folder, name))
        for name in _file_names(rows, path / inside)
    ]


def from_arrow(table: pa.Table) -> datasets.Dataset:
    """A data set in memory. Categories, which ``datasets`` does not know, become their values."""
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(
                number, field.name, table.column(number).cast(field.type.value_type)
            )
    return datasets.Dataset(table)


def from_rows(rows: list[Any], name: str) -> datasets.Dataset:
    """Rows given as dicts; a key that a row has not is null there.

    Raises:
        DataError: a row is no dict, or a column mixes types; the message begins with ``name``.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{name}: row {number} is {type(row).__name__}, not keys and values")
    if not any(rows):
        return datasets.Dataset.from_dict({})
    columns = []
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [str(v) if isinstance(v := row.get(key), Path) else v for row in rows]
        try:
            columns.append(datasets.Dataset.from_dict({key: values}))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(
                f"{name}: column '{key}' is not of one type: {' '.join(str(error).split())}"
            ) from error
    return datasets.concatenate_datasets(columns, axis=1)


def _parse_csv(data: bytes, name: str, delimiter: str) -> datasets.Dataset:
    if not data.strip():
        return datasets.Dataset.from_dict({})
    header = next(_cells(data, delimiter))
    if not header or len(set(header)) < len(header):
        raise DataError(f"{name}: its first line must name each column once; it has {header}")
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            pyarrow.csv.ReadOptions(block_size=1 << 24),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
        )
    except pa.ArrowInvalid:
        _blame_line(data, name, delimiter, header)
        raise
    return from_arrow(pa.table([_typed(c) for c in table.columns], table.schema.names))


def _cells(data: bytes, delimiter: str) -> Any:
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    return csv.reader(text, delimiter=delimiter)


def _blame_line(data: bytes, name: str, delimiter: str, header: list[str]) -> None:
    """Raise for the first row that is not as wide as the header, by the line that it begins on."""
    data.decode("utf-8")  # a reader by chunks would say where in its chunk a byte is wrong
    rows = _cells(data, delimiter)
    begins = 1
    try:
        for row in rows:
            if row and len(row) != len(header):
                if other := _other_separator(header, delimiter.join(row)):
                    raise DataError(
                        f"{name}: its header and line {begins} have {other!r} between cells, it "
                        f"seems, and not {delimiter!r}; separate them by ',' in a .csv, and by "
                        "tabs in a .tsv"
                    )
                raise DataError(
                    f"{name}: line {begins} has {len(row)} cells where the header has "
                    f"{len(header)}; a text with '{delimiter}' or a line break in it stands in "
                    "double quotes"
                )
            begins = rows.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{name}: line {begins} begins a text of more than {csv.field_size_limit():,} "
            "characters; look for a double quote there that is never closed"
        ) from error


def _other_separator(header: list[str], line: str) -> str | None:
    """What else seems to part cells: it is in the header, which is one cell, and in the line."""
    if len(header) != 1:
        return None
    return next((sign for sign in ",;\t|" if sign in header[0] and sign in line), None)


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers where every cell that is not empty is one; else the text as it is."""
    cells = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    if cells.null_count == len(cells):
        return column
    for kind, pattern in NUMBER.items():
        if pc.all(pc.match_substring_regex(cells, pattern)).as_py():
            try:
                return cells.cast(kind)
            except pa.ArrowInvalid:  # more digits than 64 bits hold
                return column
    return column


def _only_sheet(found: list[str], path: Path) -> str:
    if len(found) != 1:
        has = f"{len(found)} of them ({', '.join(sorted(found)[:3])} …)" if found else "none"
        raise DataError(
            f"{path}: a folder of pictures needs one {METADATA} with the column file_name; "
            f"it has {has}"
        )
    return found[0]


def _file_names(rows: datasets.Dataset, sheet: Path) -> list[str]:
    if "file_name" not in rows.column_names or "image" in rows.column_names:
        raise DataError(
            f"{sheet}: needs the column file_name and none called image, which will hold the "
            f"pictures; {one_of('file_name', rows.column_names)}"
        )
    return [str(name) for name in rows["file_name"]]


def _with_images(rows: datasets.Dataset, images: pa.ChunkedArray) -> datasets.Dataset:
    table = rows.data.table.append_column("image", images)
    features = datasets.Features({**rows.features, "image": datasets.Image(decode=False)})
    return datasets.Dataset(table.replace_schema_metadata(features.arrow_schema.metadata))
