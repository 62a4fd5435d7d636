"""transformers.Trainer as msiam uses it: what resumes, what stops it, what decays."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from msiam_lstm.encoder import LstmEncoder
from rich.console import Console

import msiam
from msiam.data.samplers import Shuffled
from msiam.errors import RecipeError, TrainingError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Embedded, Result
from msiam.evaluation.retrieval import Retrieval
from msiam.losses.arcface import ArcFace, ArcFaceOptions
from msiam.losses.base import WeightedSum
from msiam.recipe import Train
from msiam.run.folder import RunFolder
from msiam.training.checkpoints import COMPLETE
from msiam.training.objective import Objective, build_loss
from msiam.training.trainer import parameter_groups, training_arguments

ROWS = [
    {"a": f"where is the {colour} {thing} number {n}", "b": f"the {thing} {n}, the {colour} one"}
    for n in range(4)
    for colour in ("red", "green", "blue", "black", "white")
    for thing in ("cat", "dog", "house", "boat", "tree")
]

WORDS = {"encoder": "lstm", "dim": 32, "hidden": 32, "dropout": 0.3, "word_dropout": 0.1}
PIECES = {
    "encoder": "transformer", "dim": 32, "vocabulary": 300, "config": {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32
    },
}  # fmt: skip
#: Checkpoints in the middle of an epoch of 5 steps, and an end that early stopping brings.
TRAIN = {"epochs": 12, "batch_size": 16, "evaluations": 8, "patience": 3}
RECIPES = {
    "siamese": ({"a": "one", "b": "one"}, {"one": WORDS}, TRAIN),
    "two encoders": ({"a": "one", "b": "two"}, {"one": WORDS, "two": PIECES}, TRAIN),
    "in chunks": ({"a": "one", "b": "two"}, {"one": WORDS, "two": PIECES}, TRAIN | {"chunk": 6}),
    "a queue of momentum keys": (
        {"a": "one", "b": "slow"},
        {"one": WORDS, "slow": {"follows": "one", "momentum": 0.9}},
        TRAIN,
        {"name": "memory", "loss": "infonce", "size": 40},
    ),
    "compiled and computed twice": (
        {"a": "one", "b": "one"},
        {"one": PIECES | {"dropout": 0.1}},
        TRAIN | {"compile": True, "gradient_checkpointing": True},
    ),
    "killed in the end": ({"a": "one", "b": "one"}, {"one": WORDS}, TRAIN | {"evaluations": 1}),
}
SCRIPT = """
import sys
import torch
import msiam
sys.path.insert(0, {here!r})
from test_trainer import RECIPES, ROWS
torch.set_num_threads(1)
columns, towers, settings, *loss = RECIPES[sys.argv[2]]
recipe = {{
    "name": "run", "data": {{"table": "given"}}, "columns": columns, "towers": towers,
    "loss": loss or "infonce", "train": settings,
}}
msiam.train(recipe, ROWS, folder=sys.argv[1], resume="--resume" in sys.argv)
"""


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    code = SCRIPT.format(here=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, str(folder), *options])


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("which", RECIPES)
def test_resuming_after_kill_9_gives_the_weights_bit_for_bit(which: str, tmp_path: Path) -> None:
    whole = start(tmp_path / "whole", which)
    cut = start(tmp_path / "cut", which)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "cut").glob("checkpoints/checkpoint-*/" + COMPLETE)):
        assert cut.poll() is None and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.005)
    os.kill(cut.pid, signal.SIGKILL)
    assert cut.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "metrics.json").exists()
    assert start(tmp_path / "cut", which, "--resume").wait() == 0
    assert whole.wait() == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert not (tmp_path / "cut" / "start").exists()


def test_a_run_that_was_moved_before_its_end_has_its_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, figures = Retrieval.evaluate, iter([0.1, 0.9, 0.5, 0.4, 0.3] * 2)

    def evaluate(self: Retrieval, embedded: Embedded, calibration: Calibration | None) -> Result:
        found = plain(self, embedded, calibration)
        if calibration is None:  # a look at validation
            found.metrics[self.primary] = next(figures)
        return found

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    def train(place: str, **more: bool) -> int:
        run = msiam.train(
            small_model(dropout=0, word_dropout=0), ROWS, folder=tmp_path / place / "run",
            max_steps=12, evaluations=4, **more,
        )  # fmt: skip
        return run.metrics["training"]["kept_step"]

    monkeypatch.setattr(Retrieval, "evaluate", evaluate)
    assert train("whole") == 3
    with monkeypatch.context() as patch:
        patch.setattr("msiam.run.training.report_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train("cut")
    (tmp_path / "cut").rename(tmp_path / "moved")
    assert train("moved", resume=True) == 3
    assert weights(tmp_path / "moved" / "run") == weights(tmp_path / "whole" / "run")


@pytest.mark.parametrize("chunk", [None, 9])
def test_a_loss_that_is_no_number_stops_and_names_the_batch(
    chunk: int | None, tmp_path: Path
) -> None:
    settings = {"epochs": 50, "learning_rate": 1e30, "chunk": chunk}
    with pytest.raises(TrainingError, match=r"step \d+ .*batch of rows \[.*learning_rate"):
        msiam.train(small_model(), ROWS, folder=tmp_path / "run", **settings)


def test_loss_state_is_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunFolder, "tidy", lambda self: None)
    msiam.train(small_model(), ROWS, folder=tmp_path / "run", max_steps=3)
    (file,) = tmp_path.glob("run/checkpoints/checkpoint-3/model.safetensors")
    saved = safetensors.torch.load_file(file)
    assert saved["loss.losses.0.log_scale"] != torch.tensor(0.07).log().neg()


def test_distances_of_vectors_of_any_length_are_refused(tmp_path: Path) -> None:
    model = small_model(normalize=False)
    with pytest.raises(RecipeError, match=r"triplet works on distances.*normalize: false"):
        msiam.train(model, ROWS, folder=tmp_path / "run", loss="triplet")
    msiam.train(model, ROWS, folder=tmp_path / "run", loss="infonce", max_steps=1)


def test_a_pretrained_encoder_at_a_high_rate_gets_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LstmEncoder, "pretrained", True)
    for rate, warned in ((1e-3, True), (1e-4, False)):
        console = Console(record=True, width=300, file=io.StringIO())
        msiam.train(
            small_model(), ROWS, folder=tmp_path / "run",
            learning_rate=rate, max_steps=1, overwrite=True, console=console,
        )  # fmt: skip
        assert ("soon forgets" in console.export_text()) == warned


def test_of_equal_figures_the_last_is_kept_and_no_gain_is_said(tmp_path: Path) -> None:
    for rate, gained in ((1e-12, False), (1e-2, True)):
        console = Console(record=True, width=300, file=io.StringIO())
        run = msiam.train(
            small_model(), ROWS, folder=tmp_path / "run", learning_rate=rate, max_steps=20,
            evaluations=4, overwrite=True, console=console,
        )  # fmt: skip
        said, kept = console.export_text(), run.metrics["training"]["kept_step"]
        assert f"kept: step {kept} of 20" in said
        assert ("training made nothing better" in said) != gained
        assert gained or kept == 20
        assert f"the weights of step {kept} were kept" in run.folder.report.read_text()


def test_an_encoder_may_have_its_own_learning_rate() -> None:
    objective = small_objective(learning_rate=1e-5)
    arguments = training_arguments(Train(learning_rate=1e-3), Path("unused"), 10, "mrr")
    groups = parameter_groups(objective, arguments)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    tower = objective.model.tower("text")
    assert {rate[id(p)] for p in tower.encoder.parameters()} == {1e-5}
    assert tower.head is not None
    assert {rate[id(p)] for p in tower.head.parameters()} == {1e-3}
    assert sum(len(group["params"]) for group in groups) == len(list(objective.parameters()))


def test_what_a_loss_learns_of_classes_may_have_its_own_learning_rate() -> None:
    for given in (0.1, None):
        objective = small_objective()
        arcface = ArcFace(ArcFaceOptions(learning_rate=given))
        objective.loss = WeightedSum([*objective.loss.losses, arcface], [1.0, 1.0])
        objective.loss.begin(torch.arange(3), 32)
        arguments = training_arguments(Train(learning_rate=1e-3), Path("unused"), 10, "mrr")
        groups = parameter_groups(objective, arguments)
        rate = {id(p): group["lr"] for group in groups for p in group["params"]}
        assert rate.pop(id(arcface.weights)) == (given or 1e-3)
        assert set(rate.values()) == {1e-3}


def test_vectors_and_scalars_do_not_decay() -> None:
    objective = small_objective()
    arguments = training_arguments(Train(weight_decay=0.1), Path("unused"), 10, "mrr")
    for group in parameter_groups(objective, arguments):
        flat = {parameter.dim() <= 1 for parameter in group["params"]}
        assert flat == {group["weight_decay"] == 0}


def test_max_steps_wins_over_epochs() -> None:
    arguments = training_arguments(Train(epochs=9, max_steps=7), Path("unused"), 10, "mrr")
    assert arguments.max_steps == 7
    assert training_arguments(Train(epochs=2), Path("unused"), 10, "mrr").max_steps == 20


def test_bf16_trains_on_the_cpu(tmp_path: Path) -> None:
    run = msiam.train(small_model(), ROWS, folder=tmp_path / "run", max_steps=5, precision="bf16")
    assert all(p.dtype == torch.float32 for p in run.model.parameters())


def test_early_stopping_ends_before_the_last_epoch(tmp_path: Path) -> None:
    """With a learning rate of almost nothing, no evaluation is better than the first."""
    run = msiam.train(
        small_model(), ROWS, folder=tmp_path / "run",
        epochs=50, evaluations=50, patience=2, learning_rate=1e-12,
    )  # fmt: skip
    sampler = Shuffled(int(run.metrics["training"]["train_rows"]), 64)
    assert run.metrics["training"]["steps"] < 50 * len(sampler)


def small_model(**tower: float) -> msiam.Model:
    return msiam.Model(
        {"text": msiam.Tower("lstm", dim=32, hidden=32, **tower)}, {"a": "text", "b": "text"}
    )


def small_objective(**tower: float) -> Objective:
    model = small_model(**tower)
    model.tower("text").fit([row["a"] for row in ROWS])
    recipe = msiam.Recipe.parse(
        {"data": {"table": "x"}, "columns": model.columns, "towers": {"text": {"encoder": "lstm"}}}
    )
    return Objective(model, build_loss(recipe.loss, model, targets=()))
