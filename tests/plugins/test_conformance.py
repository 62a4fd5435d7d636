"""Every encoder of the plugins keeps the contract of encoders."""

from __future__ import annotations

import numpy as np
import pytest
from msiam_lstm.encoder import LstmEncoder
from msiam_lstm.text_cnn import TextCnn
from msiam_transformer.encoder import TransformerEncoder
from msiam_vision.conv4 import Conv4
from msiam_vision.efficientnet_lite import EfficientNetLite0
from msiam_vision.small_cnn import SmallCNN
from msiam_vision.time_delay import TimeDelay
from msiam_vision.torchvision_encoder import TorchvisionEncoder

from msiam.registry.conformance import check_encoder

TEXTS = ["swim", "How do I learn to swim?", "honey, or sugar: is honey the better of the two?"]
SIZES = [(9, 9), (50, 20), (7, 40)]
PICTURES = [np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
TINY = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize(
    ("cls", "options", "items"),
    [
        (LstmEncoder, {"min_count": 1, "hidden": 8}, TEXTS),
        (LstmEncoder, {"tokenizer": "bpe", "hidden": 8, "pooling": "attention"}, TEXTS),
        (TextCnn, {"min_count": 1, "filters": 8}, TEXTS),
        (TransformerEncoder, {"config": TINY, "vocabulary": 300}, TEXTS),
        (SmallCNN, {"size": 32, "width": 4}, PICTURES),
        (SmallCNN, {"size": 32, "width": 4, "patch": 2, "pool": 2}, PICTURES),
        (Conv4, {"size": 16, "widths": (4, 4, 4, 4)}, PICTURES),
        (Conv4, {"size": 16, "widths": (4, 4, 4, 4), "residual": True}, PICTURES),
        (TimeDelay, {"size": 40}, PICTURES),
        (EfficientNetLite0, {"size": 32}, PICTURES),
        (EfficientNetLite0, {"size": 32, "taps": [0, 3]}, PICTURES),
        (TorchvisionEncoder, {"model": "resnet18", "size": 32}, PICTURES),
    ],
)
def test_it_keeps_the_contract(cls, options, items):
    check_encoder(cls, options, items)


def test_an_lstm_with_word_vectors_keeps_it(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("swim 1 2\nlake 3 4\nhoney 9 8\n")
    check_encoder(LstmEncoder, {"vectors": str(path), "hidden": 8}, TEXTS)


@pytest.mark.parametrize(
    ("cls", "options", "pretrained"),
    [
        (LstmEncoder, {"vectors": "glove.txt"}, False),
        (TransformerEncoder, {}, False),
        (TransformerEncoder, {"model": "some/model"}, True),
        (SmallCNN, {}, False),
        (EfficientNetLite0, {}, False),
        (EfficientNetLite0, {"weights": "some.pth"}, True),
        (TorchvisionEncoder, {"model": "resnet18"}, False),
        (TorchvisionEncoder, {"model": "resnet18", "weights": "default"}, True),
    ],
)
def test_pretrained_says_whether_fit_loads_weights(cls, options, pretrained):
    assert cls(cls.Options(**options)).pretrained is pretrained
