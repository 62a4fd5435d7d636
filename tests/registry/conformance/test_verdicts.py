from __future__ import annotations

import json
import re

import pytest

from msiam.cli.plugins import plugins
from msiam.registry import Registry
from msiam.registry.conformance import Verdict, check_all
from msiam.registry.conformance.verdicts import ITEMS

CLI = "from msiam.cli import main; main()"

ENCODERS = """
    import numpy as np
    import torch
    from msiam import Encoder, Options, Rejected, errors

    class Length(Encoder):
        modality = "text"
        dim = 2

        @classmethod
        def accepts(cls, item):
            return isinstance(item, str)

        def prepare(self, items):
            return [np.array([len(item), 1], np.float32) if isinstance(item, str)
                    else Rejected("no text") for item in items]

        def collate(self, features):
            return {"length": torch.from_numpy(np.stack(features))}

        def forward(self, batch):
            return batch["length"]

    class Wide(Length):
        dim = 3

    class Crash(Length):
        def fit(self, items):
            raise ZeroDivisionError("oh\\nno")

    class Picture(Length):
        modality = "image"

    class SizedOptions(Options):
        size: int

    class Sized(Length):
        Options = SizedOptions

    class Download(Length):
        def fit(self, items):
            raise errors.ModelError("its weights are not here; pip install the-weights")
"""

HOOKS = """
    from msiam import hookimpl

    @hookimpl
    def msiam_encoders(register):
        register("crash", "encoders:Crash", modality="text")
        register("download", "encoders:Download", modality="text")
        register("gone", "no_such_module:Gone", modality="text")
        register("length", "encoders:Length", modality="text")
        register("needs", "no_such_module:Needs", modality="text", extra="msiam-birds[all]")
        register("picture", "encoders:Picture", modality="text")
        register("sized", "encoders:Sized", modality="text")
        register("sized_3", "encoders:Sized", modality="text", preset={"size": 3})
        register("song", "encoders:Length", modality="audio")
        register("wide", "encoders:Wide", modality="text")
"""


@pytest.fixture
def verdicts(install, discover, monkeypatch) -> dict[str, Verdict]:
    install("msiam_birds", HOOKS, encoders=ENCODERS)
    monkeypatch.setenv("MSIAM_PLUGINS", "msiam_birds")
    return {f"{v.kind} {v.name}": v for v in check_all(discover())}


def test_all_that_is_registered_has_its_verdict(verdicts):
    encoders = [f"encoder {name}" for name in re.findall(r'register\("(\w+)"', HOOKS)]
    core = ["loss contrastive", "loss infonce", "loss triplet", "miner hard", "backend faiss"]
    assert [*verdicts][: len(encoders)] == encoders
    assert set(core) <= set(verdicts)
    for name in [*core, "encoder length", "encoder sized_3"]:
        assert (verdicts[name].error, verdicts[name].skipped) == (None, None), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crash", "ZeroDivisionError: oh no"),
        ("gone", "does not import: No module named 'no_such_module'"),
        ("picture", "is registered as text, and its class says image"),
        ("wide", "forward gives (13, 2), not (13, 3)"),
    ],
)
def test_what_is_wrong_is_an_error_in_one_line(verdicts, name, said):
    verdict = verdicts[f"encoder {name}"]
    assert said in verdict.error
    assert "\n" not in verdict.error
    assert verdict.skipped is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("download", "cannot be made: its weights are not here; pip install the-weights"),
        ("needs", "pip install 'msiam-birds[all]'"),
        ("sized", "cannot be made: Sized: size: is missing, and has no default"),
        ("song", "no items of modality 'audio' to test on"),
    ],
)
def test_what_cannot_be_tested_here_is_skipped_and_says_why(verdicts, name, said):
    verdict = verdicts[f"encoder {name}"]
    assert said in verdict.skipped
    assert verdict.error is None


def test_an_empty_registry_has_no_verdicts():
    assert check_all(Registry()) == []


@pytest.mark.parametrize("modality", ITEMS)
def test_the_items_made_up_for_tests_are_the_same_each_time_and_all_different(modality):
    one, other = (
        [x if isinstance(x, str) else (x.mode, x.size, x.tobytes()) for x in ITEMS[modality]()]
        for _ in range(2)
    )
    assert one == other
    assert len(set(one)) == len(one) >= 5


def with_bird(install, cls: str) -> None:
    """Install a plugin with one encoder, and with one that cannot be tested here."""
    hooks = f"""
        from msiam import hookimpl

        @hookimpl
        def msiam_encoders(register):
            register("bird", "encoders:{cls}", modality="text")
            register("song", "encoders:Length", modality="audio")
    """
    install("msiam_birds", hooks, encoders=ENCODERS)


def test_the_command_line_says_what_fails_and_exits_with_1(install, process):
    with_bird(install, "Wide")
    done = process("-c", CLI, "plugins", "--check", MSIAM_PLUGINS="msiam_birds")
    assert done.returncode == 1, done.stderr
    assert "fails    encoder bird  forward gives (13, 2), not (13, 3)\n" in done.stdout
    assert "skipped  encoder song  no items of modality 'audio'" in done.stdout
    assert "ok       loss infonce" in done.stdout


def test_for_scripts_it_is_json_and_what_is_skipped_is_no_failure(install, monkeypatch, capsys):
    with_bird(install, "Length")
    monkeypatch.setenv("MSIAM_PLUGINS", "msiam_birds")
    plugins(check=True, json=True)
    found = {verdict["name"]: verdict for verdict in json.loads(capsys.readouterr().out)}
    assert found["bird"] == {"kind": "encoder", "name": "bird", "error": None, "skipped": None}
    assert found["song"]["skipped"].startswith("no items of modality 'audio'")
