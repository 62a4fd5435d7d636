"""msiam index into an engine that a URL names, and what it says of a URL that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command

SECRET = "hunter2-of-the-shop"


def test_a_gallery_in_lancedb(
    msiam: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lancedb")
    monkeypatch.setenv("XDG_STATE_HOME", str(workplace / "state"))
    done = msiam(
        "index", "runs/pairs", "pairs.csv", "--column", "question1", "--out", "lance",
        "--backend", "lancedb://tables?index=IVF_FLAT", "--backend-option", "lists=2",
        "--backend-option", "probes=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((workplace / "lance" / "manifest.json").read_text())
    assert "lancedb" in json.dumps(manifest) and (workplace / "tables").is_dir()
    found = msiam("search", "lance", "where is the blue boat", "-k", 1, "--json")
    assert json.loads(found.stdout)[0]["hits"][0]["score"] > 0.999


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", f"pgvector://me:{SECRET}@db/shop"], "holds a password"),
        (["--backend", "pgvector://db/shop", "--backend-option", SECRET], "give KEY=VALUE"),
        (
            ["--backend", "faiss", "--backend-option", f"password={SECRET}"],
            "backend faiss: password: no such key",
        ),
    ],
)
def test_a_secret_is_refused_and_not_repeated(
    msiam: Command, workplace: Path, words: list[str], message: str
) -> None:
    done = msiam(
        "index", "runs/pairs", "pairs.csv", "--column", "question1", "--out", "none", *words
    )
    assert done.returncode == 2 and message in " ".join(done.stderr.split())
    assert SECRET not in done.stdout + done.stderr
    for path in workplace.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
