"""The examples, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_towers(tmp_path: Path) -> None:
    said = run(EXAMPLES / "two_towers.py", cwd=tmp_path)
    assert "recall@1" in said
    assert len([line for line in said.splitlines() if line[:1].isdigit() or line[:1] == "-"]) == 3


def test_nearest_neighbours_builds_then_opens(tmp_path: Path) -> None:
    import msiam

    rows = [{"a": f"thing {n}", "b": f"the thing called {n}"} for n in range(60)]
    model = msiam.Model({"t": msiam.Tower("lstm", dim=16, hidden=16)}, {"a": "t", "b": "t"})
    msiam.train(model, rows, folder=tmp_path / "run", max_steps=2)
    (tmp_path / "rows.csv").write_text("a\n" + "\n".join(row["a"] for row in rows) + "\n")
    call = [EXAMPLES / "nearest_neighbours.py", "run", "rows.csv", "a", "thing 7", "-k", 2]
    first = run(*call, cwd=tmp_path)
    assert (tmp_path / "run/gallery-a/manifest.json").is_file()
    assert run(*call, cwd=tmp_path) == first
    assert len(first.splitlines()) == 3
