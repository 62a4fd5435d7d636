"""One small run, trained by the real command line, for all tests of commands."""

import subprocess
from pathlib import Path

import pytest
from command_line import Command, run_command, write_pairs


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.csv and the run of it in runs/pairs."""
    folder = tmp_path_factory.mktemp("workplace")
    write_pairs(folder / "pairs.csv")
    done = run_command(
        "train", "--data", "pairs.csv", "--columns", "question1=lstm,question2=lstm", "--shared",
        "--label", "is_duplicate=1", "--set", "train.epochs=8", "--set", "towers.shared.dim=32",
        "--set", "towers.shared.hidden=32", "--json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def msiam(workplace: Path) -> Command:
    """Run a command in the workplace: ``msiam("match", "runs/pairs", "a", "b")``."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, cwd=workplace)

    return call
