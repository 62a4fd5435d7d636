"""Every classification network of torchvision.models, without its classifier."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from pydantic import Field, field_validator
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from msiam import errors, resolve
from msiam_vision import images
from msiam_vision.image_encoder import ImageEncoder, ImageOptions
from msiam_vision.weights import SUFFIXES, load_whole, read_state

CLASSES = 1000  # as every network of torchvision is made
# The weights of DenseNets have a dot more in their names: denselayer1.norm.1.weight.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # classifiers halfway, there for training alone


def models() -> list[str]:
    """The names of torchvision's classification networks."""
    return torchvision.models.list_models(module=torchvision.models)


class TorchvisionOptions(ImageOptions):
    """The options of torchvision's networks."""

    size: int = Field(224, ge=16, le=1024, description="side of the square seen, in pixels")
    fit: images.Fit = Field("crop", description="how a picture becomes square")
    model: str = Field(description="a classification network's name in torchvision.models")
    weights: str = Field(
        "none", description="none, default, a name torchvision gives them, or a state dict's file"
    )

    @field_validator("model")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in models():
            raise ValueError(f"torchvision has no '{value}'; {errors.one_of(value, models())}")
        return value


class TorchvisionEncoder(ImageEncoder):
    """A network of torchvision.models up to the vectors that its classifier would get."""

    Options = TorchvisionOptions

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def pretrained(self) -> bool:
        return self.options.weights != "none"

    def build(self) -> nn.Module:
        """The network with random weights; its last layer is gone.

        Raises:
            RecipeError: the network does not take pictures of this size.
        """
        model, size = self.options.model, self.options.size
        try:
            network = torchvision.models.get_model(model, weights=None, **self._arguments())
            self.classifier = _without_classifier(network)
            with torch.no_grad():  # and in eval mode, so that the trial moves no statistics
                self._dim = network.eval()(torch.zeros(1, 3, size, size)).shape[1]
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise errors.RecipeError(
                f"size: {model} takes no pictures of {size}: {reason}"
            ) from error
        return network.train(self.training)

    def fit(self, items: Iterable[Any]) -> None:
        """Build the network and load the weights, if any are named.

        Raises:
            ModelError: they are not on this machine and cannot be fetched, or are another's.
        """
        super().fit(items)
        weights = self.options.weights
        if self.pretrained:
            if weights.endswith(SUFFIXES):
                state = read_state(resolve(weights))
            else:
                state = self._fetched(weights)
            load_whole(self.network, self._own(state), weights)

    def _arguments(self) -> dict[str, Any]:
        """What the network's constructor needs to know beyond its name."""
        model, size = self.options.model, self.options.size
        if model.startswith("vit_"):
            return {"image_size": size}
        if model.startswith("maxvit"):
            return {"input_size": (size, size)}
        if model in ("googlenet", "inception_v3"):
            # torchvision's weights for these expect another normalisation, which they then do.
            return {"aux_logits": False, "init_weights": True, "transform_input": self.pretrained}
        return {}

    def _fetched(self, name: str) -> dict[str, Tensor]:
        """torchvision's own weights of that name, from its cache or else its site."""
        model = self.options.model
        known = torchvision.models.get_model_weights(model).__members__
        wanted = name.upper()
        if wanted not in known:
            names = (member for member in known if member != "DEFAULT")
            choices = ["none", "default", *names, f"a file ({', '.join(SUFFIXES)})"]
            raise errors.ModelError(
                f"weights: {model} has no '{name}'; {errors.one_of(name, choices)}"
            )
        url = known[wanted].url
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
        if place.exists():
            return read_state(place)
        try:
            return torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as error:
            raise errors.ModelError(
                f"weights: '{name}' of {model} is not on this machine and cannot be fetched "
                f"({error}); put {url} at {place}, or set weights: none"
            ) from error

    def _own(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state dict without classifiers, its position embedding fitted to our size."""
        drop = (self.classifier + ".", *AUXILIARY)
        own = {
            OLD_DENSENET.sub(r"\1", name): tensor
            for name, tensor in state.items()
            if not name.startswith(drop)
        }
        if "encoder.pos_embedding" in own:
            patch: Any = self.network.patch_size
            own = dict(interpolate_embeddings(self.options.size, patch, OrderedDict(own)))
        return own


def _without_classifier(network: nn.Module) -> str:
    """Put nothing in the place of the last layer; return its name."""
    name = ""
    for candidate, layer in network.named_modules():
        if CLASSES in (getattr(layer, "out_features", 0), getattr(layer, "out_channels", 0)):
            name = candidate
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return name
