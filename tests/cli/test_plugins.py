"""msiam plugins NAME: its conformance tests."""

from __future__ import annotations

import json

from command_line import Command


def test_one_name_is_checked(msiam: Command) -> None:
    done = msiam("plugins", "lstm", "--check", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        {"kind": "encoder", "name": "lstm", "error": None, "skipped": None}
    ]
    done = msiam("plugins", "infonce", "--check")
    assert done.stdout == "ok       loss infonce  \n" and done.returncode == 0


def test_what_cannot_be_checked_is_refused(msiam: Command) -> None:
    for words, said in (
        (["lsmt", "--check"], "nothing is registered as 'lsmt'; did you mean 'lstm'?"),
        (["retrieval", "--check"], "evaluator retrieval: has no conformance tests"),
        (["lstm", "--check", "--measure"], "found --check and --measure; give one of them"),
        (["--check", "--measure"], "found --check and --measure; give one of them"),
    ):
        done = msiam("plugins", *words)
        assert done.returncode == 2 and not done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith("msiam: ") and said in line
