"""msiam serve as a real process on the loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from command_line import Command, run_command

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def gallery(workplace: Path) -> Path:
    done = run_command(
        "index", "runs/pairs", "pairs.csv", "--column", "question1", "--id", "key",
        "--out", "served", cwd=workplace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return workplace / "served"


def start(gallery: Path, *arguments: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "msiam", "serve", str(gallery), "--port", "0", *arguments],
        stderr=subprocess.PIPE, text=True, env=dict(os.environ) | environment,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + process.stderr.read()
    return process, found[0]


def ask(address: str, body: dict[str, object], **headers: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(
        f"{address}/search",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_many_clients_are_answered_and_an_end_waits_for_them(gallery: Path) -> None:
    process, address = start(gallery)
    try:
        answers: list[tuple[int, dict[str, object]]] = []

        def client(number: int) -> None:
            body = {"queries": [{"text": f"where is the red cat {number}"}] * 8, "k": 3}
            answers.append(ask(address, body))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        threads[0].join()
        while len(answers) < 4:
            pass
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
    finally:
        process.terminate()
        rest = process.communicate(timeout=60)[1]
    # One that had not connected yet is refused; one that had is answered.
    assert {status for status, _ in answers} <= {200, 503} and len(answers) >= 4
    assert "Traceback" not in rest and process.returncode in (0, -signal.SIGTERM)


def test_a_gallery_that_is_built_anew_is_served(gallery: Path, workplace: Path) -> None:
    process, address = start(gallery)
    try:
        status, found = ask(address, {"queries": [{"text": "where is the red cat"}], "k": 500})
        before = len(found["results"][0]["hits"])  # type: ignore[index, call-overload]
        assert status == 200
        table = workplace / "fewer.csv"
        table.write_text("key,question1\na,where is the red cat\nb,who has my dog\n")
        done = run_command(
            "index", "runs/pairs", table, "--column", "question1", "--id", "key",
            "--out", "served", cwd=workplace,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        after = before
        while after == before:
            _, found = ask(address, {"queries": [{"text": "where is the red cat"}], "k": 500})
            after = len(found["results"][0]["hits"])  # type: ignore[index, call-overload]
        assert (before, after) == (120, 2)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_loopback_alone_needs_no_token(
    gallery: Path, msiam: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MSIAM_TOKEN", raising=False)
    done = msiam("serve", gallery, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2 and "set MSIAM_TOKEN" in done.stderr
    monkeypatch.setenv("MSIAM_TOKEN", "short")
    done = msiam("serve", gallery, "--port", "0")
    assert done.returncode == 2 and "16 characters" in done.stderr and "short" not in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])  # the latter behind a proxy
def test_with_a_token_others_may_reach_it_by_any_name(gallery: Path, host: str) -> None:
    token = "0123456789abcdef0123"
    process, address = start(gallery, "--host", host, MSIAM_TOKEN=token)
    address = address.replace("0.0.0.0", "127.0.0.1")
    try:
        body: dict[str, object] = {"queries": [{"text": "where is the red cat"}]}
        assert ask(address, body)[0] == 401
        assert ask(address, body, Authorization=f"Bearer {token}", Host="any.name")[0] == 200
    finally:
        process.terminate()
        rest = process.communicate(timeout=60)[1]
    assert token not in rest


def test_a_port_that_is_taken_is_one_line(gallery: Path, msiam: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = msiam("serve", gallery, "--port", taken.getsockname()[1])
    assert done.returncode == 2 and "give another --port" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_no_gallery_is_one_line(msiam: Command) -> None:
    done = msiam("serve", "nothing", "--port", "0")
    assert done.returncode == 2 and done.stderr.startswith("msiam: nothing: is no gallery")
