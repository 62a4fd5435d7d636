"""The examples, run as a user runs them."""

import json
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
