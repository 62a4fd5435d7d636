"""torchvision's networks as encoders: what is cut off, and where their weights come from."""

import re
from urllib.error import URLError

import msiam_vision
import pytest
import torch
import torchvision
from msiam_vision.torchvision_encoder import TorchvisionEncoder, models
from safetensors.torch import save_file
from torch import nn

from msiam import errors
from msiam.registry.options import parse_options

TINY = "mobilenet_v3_small"


def encoder(model=TINY, **options):
    return TorchvisionEncoder(TorchvisionEncoder.Options(model=model, **options))


def whole(model=TINY):
    torch.manual_seed(5)
    return torchvision.models.get_model(model, weights=None).eval()


@pytest.mark.parametrize(
    ("model", "size", "dim"),
    [
        ("resnet18", 32, 512),
        (TINY, 32, 1024),
        ("squeezenet1_1", 48, 512),
        ("shufflenet_v2_x0_5", 32, 1024),
        ("googlenet", 64, 1024),
    ],
)
def test_the_vectors_are_what_the_classifier_gets(model, size, dim):
    torch.manual_seed(0)
    made = encoder(model, size=size)
    made.fit([])
    made.eval()
    assert made.dim == dim
    features = made.prepare([torch.randint(0, 256, (50, 70, 3), dtype=torch.uint8).numpy()] * 2)
    with torch.no_grad():
        vectors = made(made.collate(features))
    assert vectors.shape == (2, dim) and vectors.std() > 0
    assert not any(1000 in tensor.shape for tensor in made.state_dict().values())


def test_every_preset_is_a_model_of_torchvision():
    assert set(msiam_vision.BACKBONES) < set(models())


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(errors.RecipeError, match="did you mean 'resnet18'"):
        parse_options(TorchvisionEncoder, {"model": "resnet_18"}, "towers: image")


def test_a_size_that_does_not_suit_is_refused():
    with pytest.raises(errors.RecipeError, match="inception_v3 takes no pictures of 32"):
        encoder("inception_v3", size=32).fit([])


def test_building_moves_no_statistics():
    made = encoder(size=32)
    made.fit([])
    assert made.network.training
    assert all(not m.num_batches_tracked for m in made.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file_give_the_networks_own_features(tmp_path, suffix):
    source = whole()
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(source.state_dict(), path)
    made = encoder(size=64, weights=str(path), fit="stretch")
    made.fit([])
    made.eval()
    source.classifier[3] = nn.Identity()
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    images = pixels.permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = source((images - mean[:, None, None]) / std[:, None, None])
        torch.testing.assert_close(made({"pixels": pixels}), expected, rtol=1e-4, atol=1e-5)


def test_default_weights_come_from_torchs_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail())
    (tmp_path / "checkpoints").mkdir()
    url = torchvision.models.get_model_weights(TINY).DEFAULT.url
    torch.save(whole().state_dict(), tmp_path / "checkpoints" / url.rsplit("/")[-1])
    for name in ("default", "IMAGENET1K_V1"):
        made = encoder(size=32, weights=name)
        made.fit([])
        assert torch.equal(made.network.features[0][0].weight, whole().features[0][0].weight)


def test_weights_that_cannot_be_fetched_say_where_they_belong(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(errors.ModelError) as error:
        encoder("resnet18", size=32, weights="default").fit([])
    line = str(error.value)
    assert "'default' of resnet18 is not on this machine and cannot be fetched" in line
    assert str(tmp_path / "checkpoints" / "resnet18-") in line
    assert "no route to host" in line and "weights: none" in line and "\n" not in line


def test_unknown_weights_are_refused_with_those_there_are():
    with pytest.raises(errors.ModelError, match="resnet18 has no 'IMAGENET1K_V9'; did you mean"):
        encoder("resnet18", weights="IMAGENET1K_V9").fit([])


def test_restoring_asks_for_no_weights(tmp_path):
    made = encoder(size=32, weights="/nowhere.pth")
    made.restore(tmp_path)
    assert made.dim == 1024


def test_position_embeddings_are_fitted_to_the_size():
    def transformer(size):
        return torchvision.models.VisionTransformer(size, 16, 1, 2, 8, 16)

    made = encoder("vit_b_16", size=64)
    made.network, made.classifier = transformer(64), "heads.head"
    own = made._own(transformer(96).state_dict())
    assert own["encoder.pos_embedding"].shape == (1, 17, 8)
    assert "heads.head.weight" not in own and "conv_proj.weight" in own


def test_densenets_weights_have_old_names():
    made = encoder("densenet121")
    made.network, made.classifier = torchvision.models.DenseNet(4, (2, 1), 8), "classifier"
    new = [n for n in made.network.state_dict() if not n.startswith("classifier")]
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", n): n for n in new}
    assert old.keys() != set(new)
    assert list(made._own(dict.fromkeys(old, torch.zeros(1)))) == new
