"""Which libraries a command imports: what makes it answer soon. No test can hold it to a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from command_line import Command

#: What even a search has no use for. Between them they take longer than all that it does need.
TRAINING = {"accelerate", "datasets", "matplotlib", "pandas", "scipy", "sklearn", "torchvision"}
#: What only says what there is needs none of these. (Typer itself imports pydantic.)
HEAVY = TRAINING | {"faiss", "numpy", "pyarrow", "tokenizers", "torch", "transformers"}


def imported(code: str, cwd: Path | None = None) -> set[str]:
    """The modules that a fresh process has once it has run this."""
    ending = "\nimport sys; print('\\n'.join(['modules:', *sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code + ending], capture_output=True, text=True, cwd=cwd, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.partition("modules:\n")[2].split())


def command(*words: str) -> str:
    """The code of a command, typed into a terminal."""
    return (
        "import contextlib, sys; from msiam.cli import main\n"
        f"sys.argv = {['msiam', *words]}\n"
        "with contextlib.suppress(SystemExit): main()"
    )


def test_importing_msiam_imports_nothing() -> None:
    before = imported("")
    found = imported("import msiam")
    assert "msiam" in found
    tops = {name.partition(".")[0] for name in found - before}
    assert tops <= sys.stdlib_module_names | {"msiam"}


def test_help_and_a_list_of_plugins_import_nothing_heavy() -> None:
    for words in (["--help"], ["train", "--help"], ["plugins"], ["plugins", "--json"]):
        found = imported(command(*words))
        assert "msiam.cli.plugins" in found
        assert HEAVY & found == set(), words


def test_a_search_and_a_match_import_no_trainer(msiam: Command, workplace: Path) -> None:
    assert msiam("index", "runs/pairs", "pairs.csv", "--column", "question1").returncode == 0
    found = imported(command("search", "runs/pairs/gallery", "where is the blue boat"), workplace)
    assert {"torch", "faiss"} <= found
    assert (TRAINING | {"transformers", "torch._dynamo"}) & found == set()
    assert "msiam.run.run" in found and "msiam.run.training" not in found
    found = imported(command("match", "runs/pairs", "where is the cat", "a red cat"), workplace)
    assert "torch" in found
    assert (TRAINING | {"transformers", "torch._dynamo"}) & found == set()


def test_what_embeds_a_table_imports_no_trainer(msiam: Command, workplace: Path) -> None:
    words = ("embed", "runs/pairs", "pairs.csv", "--column", "question1", "--out", "s.parquet")
    found = imported(command(*words), workplace)
    assert (workplace / "s.parquet").is_file()
    assert "msiam.run.training" not in found
    assert not {name for name in found if name.startswith("transformers.trainer")}


def test_a_process_that_only_answers_says_all_of_it_and_how_it_ended(workplace: Path) -> None:
    """It leaves without taking the libraries apart, and must have written everything."""
    program = [sys.executable, "-m", "msiam"]
    ends = {}
    for name, words in {
        "plugins": ["plugins", "--json"],
        "refused": ["match", "nowhere", "a", "b"],
        "usage": ["search", "--nothing"],
    }.items():
        ends[name] = subprocess.run(
            [*program, *words], capture_output=True, text=True, cwd=workplace, timeout=600
        )
    assert ends["plugins"].returncode == 0 and json.loads(ends["plugins"].stdout)["encoder"]
    assert ends["refused"].returncode == 2
    assert ends["refused"].stderr.startswith("msiam: nowhere: ")
    assert ends["usage"].returncode == 2 and "--nothing" in ends["usage"].stderr
