"""The commands, as a user and as a script would call them."""

import csv
import datetime
import importlib.metadata
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import Command, run_command, run_process

from msiam import Model
from msiam.cli.train import tower_names


def test_train_without_a_recipe_writes_the_one_it_used(workplace: Path) -> None:
    recipe = yaml.safe_load((workplace / "runs/pairs/recipe.yaml").read_text())
    assert recipe["columns"] == {"question1": "shared", "question2": "shared"}
    assert recipe["data"]["label"] == {"column": "is_duplicate", "same": 1}
    assert recipe["loss"][0]["name"] == "contrastive"
    assert recipe["evaluate"][0]["name"] == "verification"


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (["title", "body-2", "été"], ["title", "body-2", "été"]),
        (["Question 1", "type", "items", "a.b"],
         ["Question_1_tower", "type_tower", "items_tower", "a_b_tower"]),
        (["a b", "a.b", "a_b_tower"], ["a_b_tower", "a_b_tower_", "a_b_tower__"]),
    ],
)  # fmt: skip
def test_a_tower_is_called_like_its_column_or_nearly_so(
    columns: list[str], names: list[str]
) -> None:
    assert list(tower_names(columns).items()) == list(zip(columns, names, strict=True))
    Model({name: {"encoder": "lstm"} for name in names}, tower_names(columns))


def test_three_columns_of_any_name_are_triplets(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Question 1", "type", "other"])
        writer.writerows([f"the {n}", f"the {n} again", f"no {n + 7}"] for n in range(60))
    done = run_command(
        "train", "--data", "t.csv", "--columns", "Question 1=lstm,type=lstm,other=lstm",
        "--set", "train.max_steps=2", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert recipe["columns"] == {
        "Question 1": "Question_1_tower", "type": "type_tower", "other": "other",
    }  # fmt: skip
    assert recipe["loss"][0]["name"] == "triplet"


def test_a_run_has_all_its_files(workplace: Path) -> None:
    run = workplace / "runs/pairs"
    for name in ("recipe.yaml", "metrics.json", "calibration.json", "report.html"):
        assert (run / name).is_file(), name
    assert (run / "model/model.safetensors").is_file()
    assert not (run / "checkpoints").exists()
    assert not list(run.rglob("*.bin")) and not list(run.rglob("*.pt"))


def test_evaluate_gives_the_figures_of_training(msiam: Command, workplace: Path) -> None:
    done = msiam("evaluate", "runs/pairs", "--json")
    assert done.returncode == 0, done.stderr
    kept = json.loads((workplace / "runs/pairs/metrics.json").read_text())
    assert json.loads(done.stdout)["verification"] == kept["verification"]


def test_evaluate_on_another_table(msiam: Command, workplace: Path) -> None:
    done = msiam("evaluate", "runs/pairs", "pairs.csv", "--json", "--report", "other.html")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verification"]["pairs"] == 120
    done = msiam("evaluate", "runs/pairs", "pairs.csv", "--report", "new/folder/other.html")
    assert "report: new/folder/other.html" in done.stdout
    assert "<html" in (workplace / "new/folder/other.html").read_text()
    assert "<html" in (workplace / "other.html").read_text()


def test_match_says_same_or_not_and_how_sure(msiam: Command) -> None:
    same = msiam("match", "runs/pairs", "where is the red cat", "where is the red cat", "--json")
    answer = json.loads(same.stdout)
    assert answer["same"] is True and answer["similarity"] > 0.999
    assert 0.5 < answer["probability"] <= 1
    said = msiam("match", "runs/pairs", "where is the red cat", "where is the red cat")
    assert said.stdout.startswith("same: similarity 1.0000 (same from ")


def test_match_reads_a_text_from_its_file_and_says_it_in_the_recipes_words(
    msiam: Command, workplace: Path
) -> None:
    (workplace / "told.txt").write_text("where is the red cat\n", encoding="utf-8")
    shutil.copytree(workplace / "runs/pairs", workplace / "runs/worded")
    recipe = workplace / "runs/worded/recipe.yaml"
    words = "decision: {same: on topic, different: off topic}"
    recipe.write_text(re.sub("(?m)^decision: .*$", words, recipe.read_text()))
    said = msiam("match", "runs/worded", "where is the red cat", "told.txt").stdout
    assert said.startswith("on topic: similarity 1.0000 (on topic from ")
    assert "probability of on topic " in said
    said = msiam("match", "runs/worded", "where is the red cat", "read all of a.txt").stdout
    assert "similarity" in said and "1.0000" not in said  # a text that ends like a file's name


def test_match_says_which_words_of_the_texts_match(msiam: Command) -> None:
    pair = ("where is the red cat", "where is the red boat")
    told = json.loads(msiam("match", "runs/pairs", *pair, "--words", "--json").stdout)
    assert [[word for word, _ in words] for words in told["words"]] == [t.split() for t in pair]
    short = json.loads(msiam("match", "runs/pairs", "where is the cat", pair[1], "--json").stdout)
    assert dict(told["words"][0])["red"] == pytest.approx(
        told["similarity"] - short["similarity"], abs=1e-4
    )
    said = msiam("match", "runs/pairs", *pair, "--words").stdout
    assert "a, similarity by word: " in said and "b, similarity by word: " in said


def test_a_text_file_that_cannot_be_read_is_named(msiam: Command, workplace: Path) -> None:
    done = msiam("match", "runs/pairs", "where is the red cat", "lost.txt")
    assert done.returncode != 0
    assert "lost.txt: cannot be read (No such file or directory); give a text" in done.stderr
    (workplace / "latin.txt").write_bytes("été".encode("latin-1"))
    done = msiam("match", "runs/pairs", "where is the red cat", "latin.txt")
    assert done.returncode != 0 and "latin.txt: is not UTF-8" in done.stderr


def test_the_version(msiam: Command) -> None:
    assert msiam("--version").stdout.strip() == importlib.metadata.version("msiam")


def test_numbers_of_things_are_whole(msiam: Command) -> None:
    rows = msiam("evaluate", "runs/pairs", "pairs.csv").stdout.splitlines()
    assert [row.split()[1] for row in rows if row.startswith("pairs ")] == ["120"]


def test_index_search_and_embed(msiam: Command, workplace: Path) -> None:
    done = msiam(
        "index", "runs/pairs", "pairs.csv", "--column", "question1", "--id", "key", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == 120
    found = msiam("search", "runs/pairs/gallery", "where is the blue boat", "-k", 3, "--json")
    ((answer),) = json.loads(found.stdout)
    assert answer["query"] == "where is the blue boat" and len(answer["hits"]) == 3
    best = answer["hits"][0]
    assert best["record"]["question1"] == "where is the blue boat"
    assert best["score"] > 0.999
    table = msiam(
        "search", "runs/pairs/gallery", "where is the blue boat", "-k", 1, "--precision", "bf16"
    )
    assert best["id"] in table.stdout
    assert "question2" in table.stdout  # what else of the model's the record has

    out = workplace / "vectors.parquet"
    done = msiam(
        "embed", "runs/pairs", "pairs.csv", "--column", "question2", "--id", "key", "--out", out
    )
    assert done.returncode == 0, done.stderr
    written = pq.read_table(out)
    assert written.column_names == ["id", "embedding"] and written.num_rows == 120
    with (workplace / "pairs.csv").open() as file:
        assert written["id"].to_pylist() == [row["key"] for row in csv.DictReader(file)]
    assert len(written["embedding"][0]) == 32
    again = ("embed", "runs/pairs", "pairs.csv", "--column", "question2", "--out", out)
    done = msiam(*again, "--id", "key", "--resume", "--json")  # it is whole
    assert json.loads(done.stdout) == {
        "file": str(out), "embedded": 120, "left_out": 0, "rejected": [],
    }  # fmt: skip
    refused = msiam(*again, "--resume")
    assert refused.returncode == 2 and "another id column (key, and this one is None)" in (
        refused.stderr
    )
    words = ("--column", "question2", "--out", workplace / "rough.parquet", "--precision")
    assert msiam("embed", "runs/pairs", "pairs.csv", *words, "bf16").returncode == 0
    assert pq.read_table(workplace / "rough.parquet").num_rows == 120
    words = (*words[:2], "--out", workplace / "rough", "--precision")
    assert msiam("index", "runs/pairs", "pairs.csv", *words, "bf16").returncode == 0
    done = msiam("index", "runs/pairs", "pairs.csv", *words, "int8")
    assert done.returncode == 2 and "give auto, fp32 or bf16" in done.stderr
    words = ("--column", "question2", "--out", workplace / "rough.parquet", "--precision")
    done = msiam("embed", "runs/pairs", "pairs.csv", *words, "int8")
    assert done.returncode == 2 and "give auto, fp32 or bf16" in done.stderr


def test_what_users_wrote_is_printed_as_it_is(msiam: Command, workplace: Path) -> None:
    """No markup, no emoji; and a date in a record is no reason to print nothing."""
    text, query = "where is [url]x[/link] :car:", "see [note] here [/b] :car:"
    rows = [{"question1": text, "day": datetime.date(2026, 1, 2)}]
    pq.write_table(pa.Table.from_pylist(rows), workplace / "odd.parquet")
    assert msiam("index", "runs/pairs", "odd.parquet", "--out", "[/odd]").returncode == 0
    found = msiam("search", "[/odd]", query)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(query) and text in found.stdout
    found = msiam("search", "[/odd]", query, "--json")
    assert json.loads(found.stdout)[0]["hits"][0]["record"] == {
        "question1": text,
        "day": "2026-01-02",
    }


def test_search_in_a_gallery_of_another_model_is_refused(msiam: Command, workplace: Path) -> None:
    done = msiam(
        "train", "--data", "pairs.csv", "--columns", "question1=lstm,question2=lstm", "--shared",
        "--label", "is_duplicate=1", "--set", "train.max_steps=1", "--out", "runs/other",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    msiam("index", "runs/pairs", "pairs.csv", "--column", "question1", "--out", "g")
    refused = msiam("search", "g", "a cat", "--run", "runs/other")
    assert refused.returncode == 2
    assert "another model" in refused.stderr and "msiam index" in refused.stderr


def test_train_again_in_the_same_folder_is_refused(msiam: Command, workplace: Path) -> None:
    before = (workplace / "runs/pairs/metrics.json").read_bytes()
    done = msiam(
        "train", "--data", "pairs.csv", "--columns", "question1=lstm,question2=lstm", "--shared"
    )
    assert done.returncode == 2
    assert "--resume" in done.stderr and "--overwrite" in done.stderr
    assert (workplace / "runs/pairs/metrics.json").read_bytes() == before


def test_set_overrides_any_key(msiam: Command) -> None:
    done = msiam(
        "train", "runs/pairs/recipe.yaml", "--out", "runs/short", "--set", "train.max_steps=2",
        "--set", "loss=[{name: infonce, temperature: 0.1}]", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["training"]["steps"] == 2


def test_plugins_lists_who_brings_what(msiam: Command) -> None:
    found = json.loads(msiam("plugins", "--json").stdout)
    encoders = {spec["name"]: spec for spec in found["encoder"]}
    assert {"lstm", "transformer", "small_cnn", "resnet18", "efficientnet_lite0"} <= set(encoders)
    assert encoders["resnet18"]["plugin"] == "msiam_vision"
    assert {"contrastive", "triplet", "infonce"} <= {spec["name"] for spec in found["loss"]}
    options = json.loads(msiam("plugins", "lstm", "--json").stdout)["options"]
    assert "hidden" in {option["option"] for option in options}


def test_plugins_measures_an_encoder(msiam: Command) -> None:
    found = json.loads(msiam("plugins", "time_delay", "--measure", "--json").stdout)["measured"]
    assert found["parameters"] == 3004 and found["dim"] == 304
    assert found["items_per_second"] > 0 and found["skipped"] is None
    done = msiam("plugins", "torchvision", "--measure")
    assert done.returncode == 0 and "not measured: cannot be made: torchvision" in done.stdout


def test_help_says_what_is_taken_by_default(msiam: Command) -> None:
    done = msiam("train", "--help")
    assert done.returncode == 0 and "[runs/NAME]" in done.stdout


def test_the_installed_command_runs_in_a_process_of_its_own(workplace: Path) -> None:
    done = run_process("match", "runs/pairs", "where is the red cat", "a red cat", cwd=workplace)
    assert done.returncode == 0 and "similarity" in done.stdout
    done = run_process("match", "nowhere", "a", "b", cwd=workplace)
    assert done.returncode == 2 and done.stderr.startswith("msiam: nowhere: ")
