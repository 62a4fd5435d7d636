"""Tables of any length, read from their files a window of rows at a time.

``open_table`` holds a table; what embeds one needs each of its rows once. Parquet, CSV, JSON lines
and pictures in folders or zips are never held. All else is opened as a table, and given out in
windows.
"""

from __future__ import annotations

import hashlib
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from msiam.data.archives import PICTURE, read_pictures
from msiam.data.files import METADATA, archive_sheet
from msiam.data.json_lines import is_lines, read_lines, scan_lines
from msiam.data.sheets import read_sheet, scan_sheet
from msiam.data.sources import Source, Table, open_table, reader_of, reading, require_column
from msiam.paths import resolve, sha256

#: Columns, and the row to begin at, to runs of rows of any length.
Read: TypeAlias = Callable[[list[str], int], Iterable[pa.RecordBatch | pa.Table]]
BATCH = 256  # rows of Parquet that are decoded together: they may be pictures
BUFFER = 1 << 20  # bytes of Parquet read at a time


@dataclass(frozen=True)
class Stream:
    """A table whose rows come in windows, in order, as often as they are asked for.

    Attributes:
        name: the table as the user wrote it, for messages.
        root: the folder in which relative file names are looked for; None: where msiam runs.
        schema: the columns and their types, pictures undecoded.
        count: how many rows.
        file: where it lies; None: in memory.
    """

    name: str
    root: Path | None
    schema: pa.Schema
    count: int
    file: Path | None
    read: Read

    def __len__(self) -> int:
        return self.count

    @property
    def columns(self) -> list[str]:
        return list(self.schema.names)

    def require(self, column: str) -> None:
        """Raise unless there is such a column.

        Raises:
            DataError: there is none; the message has the nearest.
        """
        require_column(self.name, column, self.columns)

    def windows(
        self, columns: Sequence[str], size: int, start: int = 0
    ) -> Iterator[tuple[int, pa.Table]]:
        """The number of each window's first row, and its rows, ``size`` of them but in the last.

        Args:
            start: the row to begin at.

        Raises:
            DataError: the file cannot be read on.
        """
        wanted = list(dict.fromkeys(columns))
        held: list[pa.Table] = []
        rows = 0
        with reading(self.name):
            for batch in self.read(wanted, start):
                table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
                held.append(_plain(table))
                rows += len(table)
                while rows >= size:
                    joined = pa.concat_tables(held)
                    yield start, joined.slice(0, size)
                    held, rows, start = [joined.slice(size)], rows - size, start + size
            if rows:
                yield start, pa.concat_tables(held)

    def digest(self) -> str:
        """Changes whenever a row changes. Of pictures that it only names, it knows the names."""
        if self.file is not None:
            return sha256(self.file)
        digest = hashlib.sha256()
        for _, window in self.windows(self.columns, BATCH):
            digest.update(repr(window.to_pydict()).encode(errors="surrogatepass"))
        return digest.hexdigest()


def open_stream(source: Source | Stream) -> Stream:
    """Open a table to read it once.

    Args:
        source: what ``open_table`` opens.

    Raises:
        DataError: as ``open_table``.
    """
    if isinstance(source, Stream):
        return source
    if isinstance(source, str | Path):
        name, path = str(source), resolve(source)
        spec = reader_of(path) if path.exists() else None
        opener = OPENERS.get(spec.target) if spec is not None else None
        if opener is not None:
            with reading(name):
                stream = opener(name, path)
            if stream is not None and stream.count and stream.columns:
                return stream
    return of_table(open_table(source))


def place_of(table: Source | Stream) -> Path | None:
    """The file that a table is read from; None: its name is none of a file."""
    if isinstance(table, Stream):
        return table.file or place_of(table.name)
    name = table.name if isinstance(table, Table) else table
    return resolve(name) if isinstance(name, str | Path) else None


def of_table(table: Table) -> Stream:
    """A table that is open already, in windows."""
    dataset = table.dataset.with_format("arrow")

    def read(columns: list[str], start: int) -> Iterator[pa.Table]:
        chosen = dataset.select_columns(columns)
        for first in range(start, len(chosen), BATCH):
            yield chosen[first : first + BATCH]

    schema = _plain(table.dataset.features.arrow_schema.empty_table()).schema
    return Stream(table.name, table.root, schema, len(table), None, read)


def _of_parquet(name: str, path: Path) -> Stream:
    with pq.ParquetFile(path) as file:
        schema = _plain(file.schema_arrow.empty_table()).schema
        count = file.metadata.num_rows

    def read(columns: list[str], start: int) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
            ends = list(itertools.accumulate(groups))
            later = [number for number, end in enumerate(ends) if end > start]
            skip = start - (ends[later[0]] - groups[later[0]]) if later else 0
            for batch in file.iter_batches(BATCH, row_groups=later, columns=columns):
                if skip < len(batch):
                    yield batch.select(columns).slice(skip)
                skip = max(0, skip - len(batch))

    return Stream(name, path.parent, schema, count, path, read)


def _of_csv(name: str, path: Path) -> Stream:
    schema, count = scan_sheet(path)
    return Stream(
        name, path.parent, schema, count, path,
        lambda columns, start: read_sheet(path, schema, columns, start),
    )  # fmt: skip


def _of_json(name: str, path: Path) -> Stream | None:
    if not is_lines(path):
        return None
    schema, count = scan_lines(path)
    return Stream(
        name, path.parent, schema, count, path,
        lambda columns, start: read_lines(path, schema, columns, start),
    )  # fmt: skip


def _of_folder(name: str, path: Path) -> Stream | None:
    """A folder of pictures, of which only their sheet is read here."""
    if path.is_file():
        return _of_archive(name, path)
    sheets = list(path.resolve().rglob(METADATA)) if path.is_dir() else []
    if len(sheets) != 1:
        return None
    sheet = sheets[0]
    schema, count = scan_sheet(sheet)
    if "file_name" not in schema.names or "image" in schema.names:
        return None

    def read(columns: list[str], start: int) -> Iterator[pa.RecordBatch]:
        needed = list(dict.fromkeys("file_name" if name == "image" else name for name in columns))
        for batch in read_sheet(sheet, schema, needed, start):
            names = batch.column("file_name").to_pylist() if "image" in columns else []
            pictures = [{"bytes": None, "path": str(sheet.parent / str(n))} for n in names]
            yield pa.record_batch(
                [pa.array(pictures, PICTURE) if n == "image" else batch.column(n) for n in columns],
                names=columns,
            )

    return Stream(name, path, schema.append(pa.field("image", PICTURE)), count, sheet, read)


def _of_archive(name: str, path: Path) -> Stream:
    """An archive of pictures, of which a window's are held, and the sheet."""
    with zipfile.ZipFile(path) as archive:
        rows, names = archive_sheet(archive, path)
    sheet = rows.data.table

    def read(columns: list[str], start: int) -> Iterator[pa.Table]:
        with zipfile.ZipFile(path) as archive:
            for first in range(start, len(names), BATCH):
                window = sheet.slice(first, BATCH)
                if "image" in columns:
                    images = read_pictures(archive, names[first : first + BATCH], path)
                    window = window.append_column("image", images)
                yield window.select(columns)

    schema = sheet.schema.remove_metadata().append(pa.field("image", PICTURE))
    return Stream(name, path.parent, schema, len(names), path, read)


#: What opens a stream, by what opens the table. None from it: hold the table instead, which
#: also says what is wrong with it.
OPENERS: dict[str, Callable[[str, Path], Stream | None]] = {
    "msiam.data.sources:read_parquet": _of_parquet,
    "msiam.data.sources:read_csv": _of_csv,
    "msiam.data.sources:read_json": _of_json,
    "msiam.data.sources:read_imagefolder": _of_folder,
}


def _plain(table: pa.Table) -> pa.Table:
    """Categories become their values; the types of extensions what they are stored as."""
    for number, field in enumerate(table.schema):
        column = table.column(number)
        if isinstance(field.type, pa.BaseExtensionType):
            column = pa.chunked_array(
                [chunk.storage for chunk in column.chunks], field.type.storage_type
            )
        elif pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        else:
            continue
        table = table.set_column(number, field.name, column)
    return table.replace_schema_metadata(None)
