from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from msiam import Model
from msiam.errors import ModelError, PluginError
from msiam.paths import sha256
from msiam.towers import storage

FILES = [
    "model.json",
    "model.safetensors",
    "towers/text/alphabet.json",
    "towers/title/alphabet.json",
]


@pytest.fixture
def folder(model, tmp_path) -> Path:
    return model.save(tmp_path / "model")


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as raised:
        Model.load(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# ---- Saved and loaded


def test_a_model_comes_back_bit_for_bit(model, folder, texts):
    again = Model.load(folder)
    assert again.fingerprint() == model.fingerprint()
    assert again.describe() == model.describe()
    assert list(again.columns) == list(model.columns)
    assert not again.training
    state = again.state_dict()
    assert {n: t.dtype for n, t in state.items()} == {
        n: t.dtype for n, t in model.state_dict().items()
    }
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    items = {"caption": texts, "name": texts, "picture": [b"abcd"]}
    before, after = model.encode(items), again.encode(items)
    assert all(np.array_equal(before[column], after[column]) for column in items)


def test_the_folder_holds_json_safetensors_and_the_encoders_files(folder):
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == FILES
    content = json.loads((folder / "model.json").read_text())
    assert content["format"] == 1
    assert content["columns"] == {
        "caption": "text",
        "query": "text",
        "name": "title",
        "picture": "image",
    }
    assert set(content["files"]) == set(FILES) - {"model.json"}


def test_half_precision_is_kept(model, tmp_path):
    again = Model.load(model.bfloat16().save(tmp_path / "half"))
    # Weights are made in float32 and filled; what they hold is what was saved.
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor.float(), model.state_dict()[name].float())


def test_weights_that_are_tied_stay_tied(tmp_path):
    towers = {"t": {"encoder": "letters", "dim": 4, "tied": True}}
    model = Model(towers, {"a": "t"})
    model.tower("t").fit(["abc"])
    again = Model.load(model.save(tmp_path / "model"))
    encoder = again.tower("t").encoder
    assert encoder.again.weight is encoder.embedding.weight
    assert again.fingerprint() == model.fingerprint()


def test_a_model_is_saved_over_another_and_nothing_is_left_beside_it(model, folder):
    with torch.no_grad():
        model.tower("image").head.bias += 1
    model.save(folder)
    assert Model.load(folder).fingerprint() == model.fingerprint()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_may_be_moved_and_reached_through_a_link(model, folder, tmp_path):
    moved = folder.rename(tmp_path / "moved")
    link = tmp_path / "link"
    link.symlink_to(moved)
    assert Model.load(link).fingerprint() == model.fingerprint()
    model.save(link)
    assert link.is_symlink()
    assert Model.load(moved).fingerprint() == model.fingerprint()


def test_it_is_saved_into_new_and_empty_folders_and_relative_ones(model, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "new/and/deep", "here"):
        assert Model.load(model.save(name)).fingerprint() == model.fingerprint()


def test_a_model_without_weights_is_not_saved(tmp_path):
    model = Model({"t": {"encoder": "letters"}}, {"a": "t"})
    with pytest.raises(ModelError, match="no weights to save before it is trained"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["file", "folder"])
def test_what_is_no_model_is_never_overwritten(model, tmp_path, there):
    place = tmp_path / "photos"
    if there == "file":
        place.write_text("dear")
    else:
        place.mkdir()
        (place / "birthday.jpg").write_text("dear")
    with pytest.raises(ModelError, match="holds something that is no model; give a new or empty"):
        model.save(place)
    kept = place if there == "file" else place / "birthday.jpg"
    assert kept.read_text() == "dear"
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


# ---- Damage


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_changed_byte_is_found_and_its_file_named(folder, name, share):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    assert str(path) in refused(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    message = refused(folder)
    assert name in message
    assert "missing" in message or "no model.json" in message


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    assert str(path) in refused(folder)


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch"])
def test_a_pickle_in_the_place_of_safetensors_is_not_opened(folder, tmp_path, kind):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    path = folder / "model.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Evil()))
    else:
        torch.save(Evil(), path, _use_new_zipfile_serialization=kind == "torch")
    message = refused(folder)
    assert message.startswith(
        f"{path}: is a pickle, which can run code when opened, where safetens"
    )
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "model.pkl"])
def test_a_pickle_alone_is_no_model(tmp_path, name):
    torch.save({}, tmp_path / name)
    message = refused(tmp_path)
    assert message.startswith(f"{tmp_path / name}: is a pickle")
    assert "model.safetensors with model.json" in message


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_without_a_model(tmp_path, there):
    folder = tmp_path / "nothing"
    if there:
        folder.mkdir()
    found = "no model.json, so no model" if there else "there is no such folder"
    assert refused(folder).startswith(f"{folder}: {found}; give a run's")


@pytest.mark.parametrize("text", ["", "[]", "{}", '"text"', "{", '{"format": 1}', "\xff\xfe"])
def test_a_description_that_is_none(folder, text):
    (folder / "model.json").write_text(text, encoding="latin-1")
    assert refused(folder).startswith(f"{folder / 'model.json'}: is damaged or was changed")


def test_a_description_of_a_newer_msiam(folder):
    (folder / "model.json").write_text(json.dumps({"format": 2, "layers": []}))
    assert refused(folder).endswith("model.json: format 2; this msiam reads format 1")


def test_weights_that_fit_another_version_of_a_plugin(folder, tiny, monkeypatch):
    build = tiny.Letters.build
    monkeypatch.setattr(tiny.Letters, "build", lambda self, alphabet: build(self, alphabet + "!"))
    message = refused(folder)
    assert message.startswith(f"{folder / 'model.safetensors'}: its weights do not fit the towers")
    assert "size mismatch" in message


def test_an_encoder_that_no_plugin_brings_is_named(folder, model, monkeypatch):
    description = {**model.describe()}
    description["towers"]["text"]["encoder"] = "lettres"
    monkeypatch.setattr(Model, "describe", lambda self: description)
    model.save(folder)
    with pytest.raises(PluginError, match="no encoder 'lettres'; did you mean 'letters'"):
        Model.load(folder)


# ---- Killed, and out of room


def test_killed_at_any_step_of_saving_the_old_model_or_the_new_one_is_whole(tmp_path):
    script = Path(__file__).with_name("saving.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "place"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    steps, old, new = map(int, done.stdout.split())
    assert steps > 15
    assert old + new == steps
    assert min(old, new) >= 2


SAVE = """
import importlib, resource, sys
from msiam import Model
from msiam.errors import RunError
from msiam.registry import registry

sys.path.insert(0, sys.argv[1])
registry().add(importlib.import_module("tiny_plugin"), "tiny_plugin")
model = Model.load(sys.argv[2])
for limit in (10, 1000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        model.save(sys.argv[2])
    except RunError as error:
        print(error)
"""


def test_a_full_disk_is_one_line_and_the_old_model_stays(model, folder):
    plugin = Path(__file__).parent / "plugin"
    command = [sys.executable, "-c", SAVE, str(plugin), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout
    assert all(line.startswith(f"{folder}: no room to write it (File too large)") for line in lines)
    assert Model.load(folder).fingerprint() == model.fingerprint()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_the_old_model_is_read_where_a_save_was_killed_between_its_renames(model, folder):
    aside = folder.with_name(".model.old")
    folder.rename(aside)
    assert storage.whole(folder) == aside
    assert Model.load(folder).fingerprint() == model.fingerprint()
    shutil.copytree(aside, folder)
    assert storage.whole(folder) == folder


@pytest.mark.parametrize("length", [0x180, 0x2580, 0x4B50])
def test_safetensors_whose_header_is_as_long_as_a_pickle_begins(tmp_path, length):
    """The first bytes of the file are 0x80, or PK, as those of a pickle are."""
    path = tmp_path / "model.safetensors"
    tensors = {"weight": torch.zeros(2)}
    least = len(safetensors.torch.save(tensors, {"note": ""})) - 16  # without length and weights
    safetensors.torch.save_file(tensors, path, {"note": "x" * (length - least)})
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    storage._check(path, sha256(path))
