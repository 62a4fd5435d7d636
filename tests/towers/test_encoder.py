from __future__ import annotations

import numpy as np
import pytest
import torch

from msiam.registry.conformance import check_encoder
from msiam.towers.encoder import Encoder, Rejected, add_weights


@pytest.fixture
def pixels(tiny):
    torch.manual_seed(0)
    encoder = tiny.Pixels(tiny.Pixels.Options())
    encoder.fit([])
    return encoder


def test_the_tiny_encoders_keep_the_contract(tiny, texts, tmp_path):
    (tmp_path / "a.pix").write_bytes(b"12345")
    check_encoder(tiny.Letters, {"width": 5}, texts)
    check_encoder(tiny.Letters, {"tied": True}, texts)
    check_encoder(tiny.Pixels, {}, [b"1234", b"5678", str(tmp_path / "a.pix")])
    check_encoder(tiny.Length, {}, texts)


def test_the_fingerprint_is_of_class_options_and_weights(tiny, pixels):
    before = pixels.fingerprint()
    assert len(before) == 16
    with torch.no_grad():
        pixels.linear.weight[0, 0] += 1e-7
    assert pixels.fingerprint() != before

    class Other(tiny.Pixels):
        pass

    other = Other(Other.Options())
    other.fit([])
    other.load_state_dict(pixels.state_dict())
    assert other.fingerprint() != pixels.fingerprint()


def test_the_fingerprint_is_the_same_in_training_and_in_every_process(pixels):
    assert pixels.train().fingerprint() == pixels.eval().fingerprint()


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]
)
def test_weights_of_every_kind_have_a_digest(dtype):
    class Recorder:
        def __init__(self):
            self.data = b""

        def update(self, data):
            self.data += bytes(data)

    def digest(*values) -> bytes:
        module, recorder = torch.nn.Module(), Recorder()
        module.register_buffer("x", torch.tensor(values, dtype=dtype)[::2])
        module.register_buffer("scalar", torch.tensor(1, dtype=dtype))
        module.register_buffer("none", torch.empty(0, 3, dtype=dtype))
        add_weights(recorder, module)
        return recorder.data

    assert digest(1, 9, 0) == digest(1, 5, 0)  # what lies between is not part of it
    assert digest(1, 0, 0) != digest(0, 0, 1)


def test_what_most_encoders_need_not_write():
    class Least(Encoder):
        modality = "nothing"
        dim = 1

        @classmethod
        def accepts(cls, item):
            return True

        def prepare(self, items):
            return [np.zeros(1, np.float32) for _ in items]

        def collate(self, features):
            return {"x": torch.tensor(np.stack(features))}

        def forward(self, batch):
            return batch["x"]

    check_encoder(Least, {}, ["a", "b", "c"])
    encoder = Least(Least.Options())
    assert encoder.cost(np.zeros(9)) == 1
    assert not encoder.reads_files


def test_a_rejection_has_its_reason():
    assert Rejected("broken").reason == "broken"
