"""The README's code, run word by word: its shell lines after a short demo, its Python as it is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_command

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo ran, with a training of a few steps in the place of all."""
    folder = tmp_path_factory.mktemp("readme")
    done = run_command(
        "demo", "--set", "train.max_steps=4", "--set", "data.split.test=100", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    (folder / "demo.txt").write_text(done.stdout)
    return folder


def test_shell_lines(demo: Path) -> None:
    lines = [
        line for block in blocks("sh") for line in block.splitlines() if line.startswith("msiam ")
    ]
    assert len(lines) >= 8
    for line in lines:
        _, *words = shlex.split(line, comments=True)
        short = ["--set", "train.max_steps=4"] if words[0] == "train" else []
        done = run_command(*words, *short, cwd=demo)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_the_commands_that_the_demo_prints_work_as_printed(demo: Path) -> None:
    _, _, tail = (demo / "demo.txt").read_text().partition("Worth trying next:")
    commands = [line.strip() for line in tail.splitlines() if line.strip()]
    assert len(commands) == 3
    for command in commands:
        program, *words = shlex.split(command)
        assert Path(program).name == "msiam" and words[0] in ("search", "match")
        done = run_command(*words, cwd=demo)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_demo_says_where_the_report_is(demo: Path) -> None:
    (report,) = re.findall(r"^Report: (.+)$", (demo / "demo.txt").read_text(), re.MULTILINE)
    assert "<html" in (demo / report).read_text()


def test_python(tmp_path: Path) -> None:
    (code,) = blocks("python")
    for _ in range(2):  # it finds what it wrote before, and goes through all the same
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "Match(similarity=" in done.stdout


def test_the_recipe_is_valid() -> None:
    import yaml

    from msiam import Recipe

    (recipe,) = blocks("yaml")
    Recipe.parse(yaml.safe_load(recipe))


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
