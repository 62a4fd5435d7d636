"""The layers of networks for pictures are their stages or blocks, and run in that order."""

import pytest
import torch
from msiam_vision.efficientnet_lite import EfficientNetLite0
from msiam_vision.layers import layers_of
from msiam_vision.small_cnn import SmallCNN
from torch import nn
from torchvision import models

SMALL = {"size": 32, "width": 4, "depth": 2}


def names_of(network: nn.Module) -> list[str]:
    names = {module: name for name, module in network.named_modules()}
    return [names[layer] for layer in layers_of(network)]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["layer1", "layer2", "layer3", "layer4"]),
        ("regnet_y_400mf", [f"trunk_output.block{n}" for n in range(1, 5)]),
        ("mobilenet_v3_small", [f"features.{n}" for n in range(13)]),
        ("alexnet", [f"features.{n}" for n in (0, 3, 6, 8, 10)]),  # convolutions alone
    ],
)
def test_of_torchvisions(name: str, layers: list[str]) -> None:
    network = models.get_model(name, weights=None)
    network.classifier = network.fc = nn.Identity()
    assert names_of(network.eval()) == layers
    ran: list[str] = []
    for place in layers:
        network.get_submodule(place).register_forward_pre_hook(
            lambda *_, place=place: ran.append(place)
        )
    network(torch.zeros(1, 3, 64, 64))
    assert ran == layers


def test_of_our_own() -> None:
    small = SmallCNN(SmallCNN.Options(**SMALL))
    small.fit([])
    assert names_of(small.network) == [str(n) for n in range(3, 11)]
    lite = EfficientNetLite0(EfficientNetLite0.Options(size=32))
    lite.fit([])
    assert names_of(lite.network) == [f"blocks.{n}" for n in range(16)]


def test_there_may_be_none() -> None:
    assert not layers_of(nn.Sequential(nn.Flatten(), nn.ReLU()))
