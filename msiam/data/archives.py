"""Pictures in zip archives, each opened once and read in the order in which they lie there.

``datasets`` opens an archive again for every picture, which makes minutes of seconds.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from msiam.errors import DataError

PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
AT_ONCE = 1000  # a run of pictures is one Arrow chunk, which holds at most 2 GB
LOOK = 100  # rows that are looked at to see whether their pictures are in an archive
#: How ``datasets`` names a picture in an archive: zip://images/1.jpg::/data/pictures.zip
INSIDE = re.compile(r"zip://(.+)::(.+)")


def read_members(archive: zipfile.ZipFile, names: Iterable[str], path: Path) -> dict[str, bytes]:
    """What an archive holds under these names, as far as it has them.

    Raises:
        DataError: a member is damaged, or asks for a password.
    """
    members = [archive.NameToInfo[name] for name in set(names) if name in archive.NameToInfo]
    contents = {}
    for member in sorted(members, key=lambda member: member.header_offset):
        try:
            contents[member.filename] = archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            # RuntimeError: how zipfile asks for a password.
            raise DataError(f"{path}: {member.filename} cannot be unpacked: {error}") from error
    return contents


def read_pictures(archive: zipfile.ZipFile, names: list[str], path: Path) -> pa.ChunkedArray:
    """Members of an archive as pictures, in the order of their names, with their whole paths.

    One that it has not keeps its path, by which its row is then rejected.
    """
    contents, place = read_members(archive, names, path), path.resolve()
    return pictures([{"bytes": contents.get(n), "path": f"{place}/{n}"} for n in names])


def pictures(values: Sequence[dict[str, Any] | None]) -> pa.ChunkedArray:
    """A column of ``{"bytes", "path"}``."""
    starts = range(0, len(values), AT_ONCE)
    return pa.chunked_array([pa.array(values[s : s + AT_ONCE], PICTURE) for s in starts], PICTURE)


def unpacked(dataset: datasets.Dataset, column: str) -> datasets.Dataset:
    """A data set with the bytes of those pictures of a column that it only names, in archives."""
    only = dataset.select_columns([column])
    if not any(map(_place, only[:LOOK][column])):
        return dataset
    values: list[Any] = only[:][column]
    places = [_place(value) for value in values]
    for path in {place[1] for place in places if place}:
        with zipfile.ZipFile(path) as archive:
            names = [place[0] for place in places if place and place[1] == path]
            contents = read_members(archive, names, path)
        for number, place in enumerate(places):
            if place and place[1] == path:
                values[number] = {**values[number], "bytes": contents.get(place[0])}
    table = dataset.with_format("arrow")[:]
    table = table.set_column(table.column_names.index(column), column, pictures(values))
    return datasets.Dataset(table.replace_schema_metadata(dataset.features.arrow_schema.metadata))


def _place(value: dict[str, Any] | None) -> tuple[str, Path] | None:
    """The member and the archive of a picture that is named, if the archive is there."""
    if value is None or value["bytes"] or not value["path"]:
        return None
    found = INSIDE.fullmatch(value["path"])
    return (found[1], Path(found[2])) if found and Path(found[2]).is_file() else None
