from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import msiam
from msiam.errors import RecipeError, RunError
from msiam.paths import (
    check_apart,
    check_place,
    expand,
    replacing,
    resolve,
    room_on_disk,
    sha256,
    write_text,
)


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


# ---- Variables, packages, home


def test_a_variable_and_a_default(monkeypatch):
    monkeypatch.setenv("MSIAM_HERE", "/data")
    monkeypatch.delenv("MSIAM_THERE", raising=False)
    text = "${MSIAM_HERE}/${MSIAM_THERE:-else where}/${MSIAM_HERE:-no}"
    assert expand(text) == "/data/else where//data"
    assert expand("${MSIAM_THERE:-}x") == "x"


def test_a_variable_set_to_nothing_takes_the_default(monkeypatch):
    monkeypatch.setenv("MSIAM_HERE", "")
    assert expand("${MSIAM_HERE:-../shared}") == "../shared"


def test_a_variable_that_is_not_set_is_named_with_what_to_do(monkeypatch):
    monkeypatch.delenv("MSIAM_THERE", raising=False)
    with pytest.raises(RecipeError, match=r"MSIAM_THERE is not set; .*\$\{MSIAM_THERE:-path\}"):
        expand("${MSIAM_THERE}/x")


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/pairs.csv") == tmp_path / "pairs.csv"


def test_a_file_inside_an_installed_package():
    found = resolve("package://msiam/registry/hookspecs.py")
    assert found == Path(msiam.__file__).parent / "registry" / "hookspecs.py"
    assert found.is_file()
    assert resolve("package://msiam") == Path(msiam.__file__).parent


def test_a_package_that_is_not_installed_says_what_to_install():
    with pytest.raises(RecipeError, match=r"gt_no_such is not installed; pip install gt-no-such"):
        resolve("package://gt_no_such/model")


@pytest.mark.parametrize("text", ["package:///model", "package://", "package://a.b/c"])
def test_a_package_that_has_no_name(text):
    with pytest.raises(RecipeError, match="package://NAME/file"):
        resolve(text)


def test_a_module_is_no_package():
    with pytest.raises(RecipeError, match="this is not installed"):
        resolve("package://this/file")


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()


# ---- Whole or not at all


def test_a_file_is_replaced_and_no_draft_is_left(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "née")
    assert (tmp_path / "a.txt").read_bytes() == "née".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("mistake", [ValueError, KeyboardInterrupt])
def test_when_writing_fails_the_old_file_stays(tmp_path, mistake):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(mistake), replacing(path) as draft:
        draft.write_text("half of the n")
        raise mistake
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folders_that_are_missing_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"
    check_place(tmp_path / "d" / "e.txt")
    assert list((tmp_path / "d").iterdir()) == []


def test_a_result_in_the_place_of_its_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in (None, tmp_path / "a.csv"):
        check_apart(source, tmp_path / "b.csv", tmp_path / "b" / "a.csv")
    with pytest.raises(RunError, match=r"^a\.csv: is the table that is read"):
        check_apart(tmp_path / "b" / ".." / "a.csv", Path("b.csv"), Path("a.csv"))


@pytest.mark.parametrize("write", [check_place, lambda path: write_text(path, "x")])
@pytest.mark.parametrize(
    ("place", "reason"),
    [("folder", "Is a directory"), ("file/a.txt", "(File exists|Not a directory)")],
)
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, write, place, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(RunError, match=rf"{place}: cannot be written \({reason}\)$"):
        write(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    """Whoever runs this may be allowed to write anywhere, so the system's answer is played."""

    def touch(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(RunError, match=r"a\.txt: cannot be written \(Permission denied\)"):
        write_text(tmp_path / "a.txt", "x")


def test_what_fails_while_writing_for_another_reason_passes_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        (tmp_path / "something else").read_text()


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, done, seen = tmp_path / "a.txt", threading.Event(), set()
    versions = {letter * 200_000 for letter in "ab"}
    write_text(path, "a" * 200_000)

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for version in sorted(versions) * 20:
        write_text(path, version)
    done.set()
    reader.join()
    assert seen <= versions


REWRITE = """
import sys
from pathlib import Path
from msiam.paths import write_text
path = Path(sys.argv[1])
print("begun", flush=True)
while True:
    for letter in "ab":
        write_text(path, letter * 1_000_000)
"""


@pytest.mark.parametrize("moment", [0.0, 0.013, 0.037])
def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path, moment):
    path = tmp_path / "a.txt"
    write_text(path, "a" * 1_000_000)
    command = [sys.executable, "-c", REWRITE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(signal.SIGKILL)
    assert path.read_text() in {"a" * 1_000_000, "b" * 1_000_000}


# ---- A full disk

FILL = """
import resource, sys
from pathlib import Path
from msiam.errors import RunError
from msiam.paths import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path(sys.argv[1]), "x" * 100_000)
except RunError as error:
    print(error)
"""


def test_a_limit_on_files_is_one_line_and_the_old_file_stays(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    done = child(FILL, path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path}: no room to write it (File too large); free some space")
    assert done.stdout.count("\n") == 1
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this machine does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_old_file_stays(small_disk):
    path = small_disk / "metrics.json"
    path.write_text("old")
    with pytest.raises(RunError, match="No space left on device"):
        write_text(path, "x" * 1_000_000)
    assert path.read_text() == "old"
    assert [p.name for p in small_disk.iterdir()] == ["metrics.json"]
    write_text(path, "new")
    assert path.read_text() == "new"


SAVE = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from msiam.errors import RunError
from msiam.paths import room_on_disk

def save_torch(path):
    torch.save(torch.zeros(10_000), path)

def save_safetensors(path):
    save_file({"a": torch.zeros(10_000)}, path)

def save_tokenizer(path):
    words = {str(number): number for number in range(10_000)}
    Tokenizer(models.WordLevel(words, unk_token="0")).save(path)

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for save in (save_torch, save_safetensors, save_tokenizer):
    try:
        with room_on_disk(Path("run")):
            save(sys.argv[1])
    except RunError as error:
        print(error)
"""


def test_libraries_that_name_a_full_disk_in_their_own_way(tmp_path):
    done = child(SAVE, tmp_path / "file")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout
    assert all(line.startswith("run: no room to write it (") for line in lines)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, os.strerror(errno.EIO)),
        FileNotFoundError("x"),
        RuntimeError("I/O error: No such file or directory (os error 2)"),
        RuntimeError("PytorchStreamReader failed reading zip archive: inline_container.cc"),
        KeyError("x"),
    ],
)
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as raised, room_on_disk(Path("run")):
        raise error
    assert raised.value is error
