"""Weights' files: read without running what is in them, loaded whole or not at all."""

import pickle

import pytest
import torch
from msiam_vision.weights import load_whole, read_state
from torch import nn

from msiam import errors


class Harm:
    """What a pickle may hold: here, a call that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_not_run(tmp_path):
    path, harm = tmp_path / "weights.pth", tmp_path / "harm"
    path.write_bytes(pickle.dumps(Harm(harm), protocol=2))
    with pytest.raises(errors.ModelError, match=r"weights\.pth is no state dict"):
        read_state(path)
    torch.save(Harm(harm), path)
    with pytest.raises(errors.ModelError, match=r"weights\.pth is no state dict"):
        read_state(path)
    assert not harm.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"\x00" * 300])
def test_a_broken_file_is_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(errors.ModelError) as error:
        read_state(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_dict_of_tensors_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    for value in ([torch.zeros(1)], {"epoch": 3}):
        torch.save(value, path)
        with pytest.raises(errors.ModelError, match="tensor under every name"):
            read_state(path)


def test_every_kind_of_difference_is_named():
    network = nn.Linear(2, 3)
    before = network.weight.detach().clone()
    state = {"weight": torch.zeros(3, 1), "scale": torch.zeros(1)}
    with pytest.raises(errors.ModelError) as error:
        load_whole(network, state, "a.pth")
    assert str(error.value) == (
        "weights: a.pth holds another network's: of 2 weights, 1 missing (bias, …), "
        "1 not its own (scale, …), 1 of another shape (weight, …)"
    )
    assert torch.equal(network.weight, before)


def test_old_files_have_no_counters():
    network = nn.Sequential(nn.BatchNorm1d(2))
    state = {f"0.{name}": torch.full((2,), 7.0) for name in ("weight", "bias", "running_mean")}
    load_whole(network, {**state, "0.running_var": torch.ones(2)}, "old.pth")
    assert network[0].running_mean.tolist() == [7, 7] and network[0].num_batches_tracked == 0
