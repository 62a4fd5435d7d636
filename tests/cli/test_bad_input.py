"""A user's mistake: one line on stderr that says what would be right, exit code 2, nothing lost."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import run_command, write_pairs

RECIPE = """
name: bad
data:
  table: pairs.csv
  label: {column: is_duplicate, same: 1}
columns: {question1: question, question2: question}
towers:
  question: {encoder: lstm, dim: 16, hidden: 16}
loss: contrastive
train: {max_steps: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs.csv")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, one line, no traceback, and these words in it."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("msiam: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "recipe.yaml").read_text()
    assert old in text
    (folder / "recipe.yaml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("train:", "trian:", ["recipe.yaml", "trian", "did you mean 'train'"]),
        ("max_steps", "max_step", ["recipe.yaml", "train.max_step", "'max_steps'"]),
        ("encoder: lstm", "encoder: lsmt", ["towers.question", "no encoder 'lsmt'", "'lstm'"]),
        ("hidden: 16", "hiden: 16", ["towers.question", "hiden", "'hidden'"]),
        ("hidden: 16", "hidden: wide", ["towers.question", "hidden", "'wide'"]),
        ("loss: contrastive", "loss: contrastve", ["no loss 'contrastve'", "'contrastive'"]),
        ("question1: question,", "question1: q,", ["columns.question1", "no tower 'q'"]),
        ("{question1:", "{question:", ["pairs.csv", "no column 'question'", "question1"]),
        ("same: 1", "same: yes please", ["pairs.csv", "is_duplicate", "yes please"]),
        ("column: is_duplicate", "column: duplicate", ["no column 'duplicate'", "is_duplicate"]),
        ("table: pairs.csv", "table: pair.csv", ["pair.csv", "no such file", "pairs.csv"]),
        (
            "encoder: lstm, dim: 16, hidden: 16",
            "encoder: small_cnn",
            ["pairs.csv", "question1", "'where is the red cat'", "tower 'question'", "image"],
        ),
        ("name: bad", "name: a/b", ["recipe.yaml", "name", "a/b"]),
    ],
)
def test_a_recipe_that_is_wrong(folder: Path, old: str, new: str, words: list[str]) -> None:
    change(folder, old, new)
    refused(run_command("train", "recipe.yaml", cwd=folder), *words)


def test_no_such_recipe(folder: Path) -> None:
    refused(run_command("train", "recip.yaml", cwd=folder), "recip.yaml", "recipe.yaml")


def test_a_recipe_that_is_no_yaml(folder: Path) -> None:
    (folder / "recipe.yaml").write_text("columns: {a: [")
    refused(run_command("train", "recipe.yaml", cwd=folder), "recipe.yaml", "no YAML")


def test_a_label_that_is_neither_value(folder: Path) -> None:
    with (folder / "pairs.csv").open("a") as file:
        file.write("x,one question,another question,2\n")
    refused(run_command("train", "recipe.yaml", cwd=folder), "pairs.csv", "row 120", "2", "neither")


def test_a_table_without_rows(folder: Path) -> None:
    (folder / "pairs.csv").write_text("key,question1,question2,is_duplicate\n")
    refused(run_command("train", "recipe.yaml", cwd=folder), "pairs.csv", "no rows")


def test_a_few_unreadable_rows_are_set_aside_and_listed(folder: Path) -> None:
    with (folder / "pairs.csv").open("a") as file:
        file.write("x1,,another question,0\nx2,a question,   ,0\n")
    done = run_command("train", "recipe.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    listed = (folder / "runs/bad/rejected.csv").read_text().splitlines()
    assert listed[0] == "table,row,column,reason" and len(listed) == 3
    assert listed[1].startswith("pairs.csv,120,question1,")
    assert listed[2].startswith("pairs.csv,121,question2,")
    assert "2 rows were set aside" in (folder / "runs/bad/report.html").read_text()


def test_too_many_unreadable_rows_stop_the_run_unless_allowed(folder: Path) -> None:
    with (folder / "pairs.csv").open("a") as file:
        file.writelines(f"x{n},,another question {n},0\n" for n in range(30))
    done = run_command("train", "recipe.yaml", cwd=folder)
    refused(done, "30 of 150 rows", "rejected.csv", "--allow-rejected")
    assert len((folder / "runs/bad/rejected.csv").read_text().splitlines()) == 31
    done = run_command("train", "recipe.yaml", "--overwrite", "--allow-rejected", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_run_that_another_process_writes(folder: Path) -> None:
    run = folder / "runs/bad"
    run.mkdir(parents=True)
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(run_command("train", "recipe.yaml", cwd=folder), "runs/bad", "another process")


def test_a_run_that_never_began_leaves_no_folder(folder: Path) -> None:
    change(folder, "loss: contrastive", "loss: quadruplet")
    refused(run_command("train", "recipe.yaml", cwd=folder), "quadruplet takes")
    assert not (folder / "runs/bad").exists()
    (folder / "mine").mkdir()
    refused(run_command("train", "recipe.yaml", "--out", "mine", cwd=folder), "quadruplet takes")
    assert list((folder / "mine").iterdir()) == []


def test_a_table_in_the_place_of_a_recipe(folder: Path) -> None:
    done = run_command("train", "pairs.csv", cwd=folder)
    refused(done, "pairs.csv: a recipe is a .yaml file", "--data pairs.csv --columns")
    refused(run_command("train", "none/recipe.yaml", cwd=folder), "none has no .yaml")


def test_a_table_cut_by_semicolons(folder: Path) -> None:
    table = folder / "pairs.csv"
    table.write_text(table.read_text().replace(",", ";"))
    refused(run_command("train", "recipe.yaml", cwd=folder), "semicolons", "commas")


def test_a_run_that_is_not_there(folder: Path) -> None:
    refused(run_command("evaluate", "runs/none", cwd=folder), "runs/none: there is no such folder")


def test_a_file_in_the_place_of_the_run_folder(folder: Path) -> None:
    (folder / "runs").write_text("a file")
    refused(run_command("train", "recipe.yaml", cwd=folder), "runs/bad", "--out")
    assert (folder / "runs").read_text() == "a file"


def test_a_full_disk_loses_nothing(workplace: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: writing fails in its midst."""
    shutil.copytree(workplace, tmp_path / "w")
    before = {p: p.read_bytes() for p in (tmp_path / "w/runs/pairs").rglob("*") if p.is_file()}
    code = (
        "import resource, signal, sys; from msiam.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.argv = ['msiam', 'train', 'runs/pairs/recipe.yaml', '--out', 'runs/full']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "w", capture_output=True, text=True
    )
    refused(done, "no room", "--resume")
    assert not (tmp_path / "w/runs/full/metrics.json").exists()
    assert all(path.read_bytes() == content for path, content in before.items())
    done = run_command("train", "runs/pairs/recipe.yaml", "--out", "runs/full", "--resume",
                       cwd=tmp_path / "w")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_model_with_a_changed_byte(workplace: Path, tmp_path: Path) -> None:
    shutil.copytree(workplace / "runs/pairs", tmp_path / "run")
    weights = tmp_path / "run/model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    refused(run_command("match", "run", "a", "b", cwd=tmp_path), "model.safetensors", "changed")


def test_a_pickle_where_safetensors_belongs(workplace: Path, tmp_path: Path) -> None:
    shutil.copytree(workplace / "runs/pairs", tmp_path / "run")
    torch.save({"weight": torch.ones(2)}, tmp_path / "run/model/model.safetensors")
    refused(run_command("match", "run", "a", "b", cwd=tmp_path), "model.safetensors", "pickle")


def test_an_unfinished_run(folder: Path) -> None:
    run = folder / "runs/bad"
    run.mkdir(parents=True)
    shutil.copy(folder / "recipe.yaml", run)
    refused(run_command("match", "runs/bad", "a", "b", cwd=folder), "not finished", "--resume")


def test_no_run_there(folder: Path) -> None:
    refused(run_command("match", "nowhere", "a", "b", cwd=folder), "nowhere", "run")
    refused(run_command("search", "nowhere", "a", cwd=folder), "nowhere", "msiam index")


def test_a_training_that_is_stopped_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("msiam.training.trainer.Trainer.train", stop)
        done = run_command("train", "recipe.yaml", cwd=folder)
    said = "msiam: stopped; go on with the same command and --resume"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, said)
    assert run_command("train", "recipe.yaml", "--resume", cwd=folder).returncode == 0

    with monkeypatch.context() as patched:
        patched.setattr("msiam.data.items.Items.prepare", stop)
        done = run_command("train", "recipe.yaml", "--out", "new", cwd=folder)
    assert done.returncode == 130 and "before training began" in done.stderr
    assert run_command("train", "recipe.yaml", "--out", "new", cwd=folder).returncode == 0


def test_a_report_that_cannot_be_written_is_said_before_the_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msiam.run.Run.evaluate", lambda *a, **k: pytest.fail("it began to work"))
    done = run_command("evaluate", "runs/pairs", "--report", "pairs.csv/report.html", cwd=workplace)
    refused(done, "pairs.csv/report.html: cannot be written")


def test_a_gallery_in_the_folder_of_a_run(workplace: Path) -> None:
    before = sorted(path.name for path in (workplace / "runs/pairs").iterdir())
    done = run_command(
        "index", "runs/pairs", "pairs.csv", "--column", "question1", "--out", "runs/pairs",
        cwd=workplace,
    )  # fmt: skip
    refused(done, "runs/pairs: holds a run", "runs/pairs/gallery")
    assert sorted(path.name for path in (workplace / "runs/pairs").iterdir()) == before


def test_resume_with_another_recipe(folder: Path) -> None:
    assert run_command("train", "recipe.yaml", cwd=folder).returncode == 0
    done = run_command("train", "recipe.yaml", "--resume", "--set", "train.max_steps=3", cwd=folder)
    refused(done, "differs", "--overwrite")


def test_a_loss_that_is_no_number(folder: Path) -> None:
    change(folder, "max_steps: 2", "max_steps: 50, learning_rate: 1.0e+30")
    refused(run_command("train", "recipe.yaml", cwd=folder), "step", "batch of rows")


def test_a_loss_of_labelled_pairs_without_labels(folder: Path) -> None:
    change(folder, "  label: {column: is_duplicate, same: 1}\n", "")
    refused(run_command("train", "recipe.yaml", cwd=folder), "contrastive", "label")


def test_a_plugin_that_does_not_import_is_set_aside(folder: Path) -> None:
    """The rest works, and the error about an unknown name says who is missing."""
    broken = folder / "broken_plugin"
    info = folder / "broken_plugin-1.0.dist-info"
    broken.mkdir(), info.mkdir()
    (broken / "__init__.py").write_text("import no_such_module_anywhere\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken_plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[msiam]\nbroken = broken_plugin\n")
    program = Path(sys.executable).with_name("msiam")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [program, "plugins"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "broken_plugin" in done.stdout and "set aside" in done.stdout
    assert "lstm" in done.stdout
