"""Several processes, started by torchrun: gradients as of one, and a whole training."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training import gradients as worker
from training import sharing

import msiam
from msiam.errors import RecipeError, TrainingError
from msiam.registry import registry
from msiam.training import processes
from msiam.training.checkpoints import COMPLETE

HERE = Path(__file__).parent
#: Nothing but this machine; one thread each, and none of an outer torchrun.
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
    "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": str(HERE.parent),
}  # fmt: skip


def torchrun(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Two processes, which meet at a port that is free."""
    meet = ["--standalone", "--nproc-per-node=2", "--local-addr=127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *meet, *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """The gradients of all cases on two processes, which are started once."""
    file = tmp_path_factory.mktemp("gradients") / "found.pt"
    started = torchrun(worker.__file__, file)
    _, err = started.communicate(timeout=600)
    assert started.returncode == 0, err
    return torch.load(file)


def test_every_registered_loss_is_among_the_cases() -> None:
    assert {case.loss for case in worker.cases()} == {s.name for s in registry().specs("loss")}


@pytest.mark.parametrize("case", worker.cases(), ids=str)
def test_gradients_of_two_processes_are_those_of_one(
    case: worker.Case, on_two: dict[str, dict[str, torch.Tensor]]
) -> None:
    expected, found = worker.gradients(case), on_two[str(case)]
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-6, msg=name)
    learns = [gradient for name, gradient in expected.items() if "model" in name]
    assert any(gradient.abs().max() > 1e-4 for gradient in learns)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What the busier of two processes computes, and what it holds."""
    if sys.platform != "linux":
        pytest.skip("peaks of memory are read from /proc")
    file = tmp_path_factory.mktemp("sharing") / "found.pt"
    started = torchrun(sharing.__file__, file)
    _, err = started.communicate(timeout=600)
    assert started.returncode == 0, err
    return torch.load(file)


@pytest.mark.parametrize("case", sharing.cases(), ids=str)
def test_two_processes_share_the_work_at_linear_memory(
    case: sharing.Case, shared: dict[str, float]
) -> None:
    """Half of the products each, but where one process has use for the symmetry of a column."""
    drawn = case.options.get("miner") == "distance_weighted"
    twice = case.columns == 2 and case.loss in ("supcon", "multi_similarity", "circle")
    most = 1.01 if drawn or twice else 0.76 if case.columns == 1 else 0.51
    assert shared[f"work of {case}"] < most
    assert shared[f"memory of {case}"] < 24


def test_rows_are_gathered_without_a_second_copy(shared: dict[str, float]) -> None:
    """64 MiB for the rows of all, and in backward 32 for each of a block, the sum and its place."""
    assert 60 < shared["forward"] < 76
    assert shared["backward"] < 112


THINGS = ("cat", "dog", "house", "boat", "tree")
RECIPE = {
    "data": {"table": "things.jsonl"},
    "columns": {"a": "one", "b": "two"},
    "towers": {
        "one": {"encoder": "lstm", "dim": 16, "hidden": 16, "dropout": 0.3},
        "two": {"encoder": "lstm", "dim": 16, "hidden": 16, "word_dropout": 0.1},
    },
    "loss": ["infonce", {"name": "triplet", "miner": "distance_weighted"}],
    "train": {
        "epochs": 12, "batch_size": 15, "evaluations": 8, "sampler": "no_duplicates",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and its recipe."""
    folder = tmp_path_factory.mktemp("training")
    rows = [
        {"a": f"where is the {colour} {thing} {n}", "b": f"the {thing} {n}, the {colour} one"}
        for n in range(4)
        for colour in ("red", "green", "blue", "black", "white")
        for thing in THINGS
    ]
    (folder / "things.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


def train(place: Path, name: str, *options: str) -> subprocess.Popen[str]:
    return torchrun("-m", "msiam", "train", "recipe.yaml", "--out", name, *options, cwd=place)


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, tuple[int, str, str]]:
    """By folder, how a training on two processes ended: one that is whole, and one of which a
    process was killed after the first checkpoint."""
    trainings = {name: train(place, name) for name in ("whole", "cut")}
    kill_second(trainings["cut"], place / "cut")
    ended = {}
    for name, training in trainings.items():
        out, err = training.communicate(timeout=600)
        ended[name] = (training.returncode, out, err)
    return ended


def kill_second(launcher: subprocess.Popen[str], folder: Path) -> None:
    """Kill the second process of a training once it has a checkpoint."""
    deadline = time.monotonic() + 300
    while not list(folder.glob("checkpoints/checkpoint-*/" + COMPLETE)):
        assert time.monotonic() < deadline, "no checkpoint was written"
        if launcher.poll() is not None:
            pytest.fail(launcher.communicate()[1])
        time.sleep(0.005)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            ours = f"PPid:\t{launcher.pid}\n" in (process / "status").read_text()
            if ours and b"\0RANK=1\0" in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
                return
    pytest.fail("there is no second process")


def test_a_training_on_two_processes_is_a_run(
    runs: dict[str, tuple[int, str, str]], place: Path
) -> None:
    code, out, err = runs["whole"]
    assert code == 0, err
    assert out.count("report: whole/report.html") == 1
    assert err.count("tower one: lstm") == 1 and "Traceback" not in err and "Warning" not in err
    assert {path.name for path in (place / "whole").iterdir()} == {
        ".lock", "calibration.json", "data.json", "metrics.json", "model", "recipe.yaml",
        "report.html",
    }  # fmt: skip
    run = msiam.load(place / "whole")
    assert run.encode({"a": ["where is the cat"]})["a"].shape == (1, 16)
    assert run.metrics["training"]["train_rows"] == 80


def test_a_process_that_is_killed_ends_the_other_with_a_line(
    runs: dict[str, tuple[int, str, str]], place: Path
) -> None:
    code, out, err = runs["cut"]
    assert code != 0 and not (place / "cut" / "metrics.json").exists()
    (line,) = (line for line in err.splitlines() if line.startswith("msiam: "))
    assert "another process of this training has ended" in line or "--resume" in line
    assert "report:" not in out


def test_resuming_on_two_processes_gives_the_weights_bit_for_bit(
    runs: dict[str, tuple[int, str, str]], place: Path
) -> None:
    resumed = train(place, "cut", "--resume")
    _, err = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, err
    whole, cut = (place / name / "model" / "model.safetensors" for name in ("whole", "cut"))
    assert cut.read_bytes() == whole.read_bytes()


def test_what_is_wrong_in_all_of_them_is_said_once(place: Path) -> None:
    started = torchrun("-m", "msiam", "train", "recipe.yml", cwd=place)
    _, err = started.communicate(timeout=600)
    assert started.returncode != 0
    assert err.count("recipe.yml: no such recipe; did you mean 'recipe.yaml'?") == 1
    assert err.count("msiam: ") == 1


def test_chunks_and_sharded_parameters_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``accelerate launch --use_fsdp`` starts it, and before anything is written or read."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    recipe = {**RECIPE, "train": {**RECIPE["train"], "chunk": 4}}
    with pytest.raises(
        RecipeError, match=r"^train\.chunk: found 4, and FSDP, .*; leave .*"
    ) as said:
        msiam.train(recipe, folder=tmp_path / "run")
    assert "\n" not in str(said.value) and not (tmp_path / "run" / "recipe.yaml").exists()
    processes.check_chunks(None)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    processes.check_chunks(4)


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("[/gloo/tcp/pair.cc:545] Read error: Connection reset by peer. This is", TrainingError),
        ("NCCL error: remote process exited", TrainingError),
        ("mat1 and mat2 shapes cannot be multiplied", RuntimeError),
    ],
)
def test_a_lost_connection_is_told_from_other_errors(
    said: str, becomes: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(becomes) as caught, processes.together():
        raise RuntimeError(said)
    assert type(caught.value) is becomes
    if becomes is TrainingError:
        assert "pair.cc" not in str(caught.value) and "last checkpoint is kept" in str(caught.value)
