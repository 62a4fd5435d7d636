"""A column of pictures, of which some are broken, from the command line."""

import csv
import re
from pathlib import Path

import pytest
from command_line import run_command
from PIL import Image

ROWS = 60
TRAIN = [
    "train", "--data", "t.csv", "--columns", "name=lstm,picture=small_cnn", "--out", "run",
    "--set", "train.max_steps=1", "--set", "towers.picture.size=32",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of pictures. The last one is cut off in its midst."""
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "picture"])
        for n in range(ROWS):
            Image.effect_noise((32, 32), 10 + n).save(tmp_path / f"{n}.png")
            writer.writerow([f"picture number {n}", f"{n}.png"])
    spoil(tmp_path / f"{ROWS - 1}.png")
    return tmp_path


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def test_a_broken_picture_is_set_aside_listed_and_counted(folder: Path) -> None:
    done = run_command(*TRAIN, cwd=folder)
    assert done.returncode == 0, done.stderr
    with (folder / "run/rejected.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["table"], row["row"], row["column"]) == ("t.csv", str(ROWS - 1), "picture")
    assert row["reason"].startswith("broken picture: ")
    assert re.search(r"\b1 rows? w\w+ set aside", (folder / "run/report.html").read_text())

    (folder / "more.csv").write_text(f"picture\n0.png\n[/b].png\n{ROWS - 1}.png\n")
    done = run_command("index", "run", "more.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    missing, broken = [line for line in done.stderr.splitlines() if line.startswith("row ")]
    assert missing.startswith("row 1 is left out: no such file: ") and missing.endswith("[/b].png")
    assert broken == f"row 2 is left out: {row['reason']}"


def test_many_broken_pictures_stop_the_run(folder: Path) -> None:
    for n in range(4):
        spoil(folder / f"{n}.png")
    done = run_command(*TRAIN, cwd=folder)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("msiam: ")]
    assert "5 of 60 rows" in line and "broken picture: " in line and "--allow-rejected" in line
    assert len((folder / "run/rejected.csv").read_text().splitlines()) == 1 + 5
    assert not (folder / "run/metrics.json").exists()
