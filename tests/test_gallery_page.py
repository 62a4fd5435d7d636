"""docs/gallery.md: its commands, run one after the other as they stand there, and its figures."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from command_line import run_command

from msiam import Gallery
from msiam.embedding.ray import TRIES
from msiam.embedding.table import ROWS
from msiam.gallery.duplicates import MOST
from msiam.run.duplicates import COMPARED, PROBED

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
THINGS = ("rain", "storm", "election", "harvest", "match", "strike", "concert", "flood")
PLACES = ("coast", "north", "capital", "valley", "harbour")
SECTIONS = ("weather", "politics", "sports")


def write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "title", "body", "section"], *rows])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's tables, in which all of its commands have been run."""
    folder = tmp_path_factory.mktemp("gallery_page")
    told = [(thing, spot) for thing in THINGS for spot in PLACES]
    rows = [
        [
            f"a{n}",
            f"{thing} in the {spot}",
            f"they report a {thing} near the {spot}",
            SECTIONS[n % 3],
        ]
        for n, (thing, spot) in enumerate(told, 1)
    ]
    rows.append(["a99", "again", rows[0][2], "weather"])
    write(folder / "articles.csv", rows)
    write(
        folder / "today.csv",
        [
            ["a1", "more", "the rain is over", "weather"],
            ["b1", "new", "a concert by the harbour", "culture"],
        ],
    )
    for line in COMMANDS:
        program, *words = shlex.split(line, comments=True)
        assert program == "msiam"
        short = ["--set", "train.max_steps=2"] if words[0] == "train" else []
        done = run_command(*words, *short, cwd=folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        (folder / f"{words[0]}.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_commands_leave_what_the_page_says(place: Path) -> None:
    assert {shlex.split(line)[1] for line in COMMANDS} == {
        "train", "index", "search", "add", "remove", "compact", "check", "dedupe", "embed",
    }  # fmt: skip
    gallery = Gallery.open(place / "articles")
    records = dict(gallery.records(range(len(gallery))))
    assert {"a1", "b1", "a3"} <= records.keys() and not {"a17", "a18"} & records.keys()
    assert records["a1"]["title"] == "more"
    assert "sports" not in {record["section"] for record in records.values()}
    assert len(gallery.manifest.segments) == 1
    with (place / "duplicates.csv").open(newline="") as file:
        pairs = [(row["id"], row["duplicate"]) for row in csv.DictReader(file)]
    assert ("a1", "a99") in pairs  # of the table, which nobody has updated
    assert (place / "duplicates.groups.csv").read_text().startswith("id,kept\n")
    assert (place / "bodies.parquet").is_file()


def test_each_figure_is_what_it_is() -> None:
    assert f"Up to {COMPARED:,} rows" in PAGE and f"the {PROBED} nearest" in PAGE
    assert f"A window of {ROWS:,} rows" in PAGE
    assert f"more than {MOST:,} near-duplicates" in PAGE
    assert "end four times in a row" in PAGE and TRIES == 4


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE)
    assert len(links) > 10
    for link in links:
        assert (ROOT / "docs" / link).exists(), link
