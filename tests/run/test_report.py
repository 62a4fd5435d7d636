"""A run's report, and that of an evaluation: what each says of rows that were set aside."""

from __future__ import annotations

import msiam

TEXT = {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1}
ROWS = [{"a": f"cook {food}", "b": f"how to cook {food}"} for food in "abcdefghijklmnop"]
UNREADABLE = {"a": "cook", "b": ""}


def test_a_report_names_the_list_of_its_own_rows_set_aside(tmp_path):
    recipe = {
        "data": {"table": "given"},
        "columns": {"a": "text", "b": "text"},
        "towers": {"text": TEXT},
        "train": {"max_steps": 1, "batch_size": 8},
    }
    run = msiam.train(recipe, [*ROWS, UNREADABLE], folder=tmp_path / "run", allow_rejected=True)
    own, other = run.folder.report, tmp_path / "report.html"
    run.evaluate([*ROWS, UNREADABLE, UNREADABLE], report=other, allow_rejected=True)
    for path, rows, name in ((own, 1, "rejected.csv"), (other, 2, "evaluation-rejected.csv")):
        said = f"{rows} rows were set aside, since they cannot be read: see {name}."
        assert said in path.read_text()
        assert len((run.folder.path / name).read_text().splitlines()) == 1 + rows
