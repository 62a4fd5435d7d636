"""msiam match: what its arguments may be."""

from __future__ import annotations

import json

from command_line import Command


def test_a_text_longer_than_a_files_name_may_end_like_one(msiam: Command) -> None:
    long = "where is the red cat " * 20 + "of all.txt"
    done = msiam("match", "runs/pairs", long, long, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["similarity"] > 0.999


def test_a_word_longer_than_a_files_name_that_ends_like_one_is_no_file(msiam: Command) -> None:
    done = msiam("match", "runs/pairs", "x" * 300 + ".txt", "where is the red cat")
    assert done.returncode == 2 and "cannot be read (File name too long)" in done.stderr
