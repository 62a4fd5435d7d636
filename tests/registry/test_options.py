from __future__ import annotations

import math
from typing import ClassVar, Literal

import pydantic
import pytest

from msiam.errors import RecipeError
from msiam.registry.options import Options, parse_options


class Layer(Options):
    width: int = pydantic.Field(8, gt=0)
    pooling: Literal["mean", "max"] = "mean"


class BirdOptions(Options):
    song: str
    volume: float = 1.0
    layer: Layer = Layer()
    maybe: Layer | None = None
    layers: list[Layer] = pydantic.Field(default_factory=list)

    @pydantic.model_validator(mode="after")
    def _audible(self):
        if self.volume < 0:
            raise ValueError("nobody hears less than nothing")
        return self


class Birds:
    Options: ClassVar[type[Options]] = BirdOptions


def fault(given, where="towers.bird (birds)", beside=()) -> str:
    with pytest.raises(RecipeError) as raised:
        parse_options(Birds, given, where, beside)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_good_options_are_parsed():
    options = parse_options(Birds, {"song": "coo", "layer": {"width": "3"}}, "x")
    assert (options.song, options.layer.width, options.volume) == ("coo", 3, 1.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sing": "coo"}, "sing: no such key; did you mean 'song'? Known: layer, layers, "),
        ({"song": "coo", "Volume": 1}, "Volume: no such key; did you mean 'volume'?"),
        ({"song": "coo", "layer": {"wide": 1}}, "layer.wide: no such key; did you mean 'width'?"),
        ({"song": "coo", "maybe": {"wide": 1}}, "maybe.wide: no such key; did you mean 'width'?"),
        (
            {"song": "c", "layers": [{"wide": 1}]},
            "layers.0.wide: no such key; did you mean 'width'",
        ),
        ({}, "song: is missing, and has no default"),
        ({"song": 3}, "song: found 3; Input should be a valid string"),
        ({"song": "coo", "layer": {"width": 0}}, "layer.width: found 0; Input should be greater"),
        (
            {"song": "coo", "layer": {"pooling": "last"}},
            "found 'last'; Input should be 'mean' or 'm",
        ),
        ({"song": "coo", "volume": -1}, "nobody hears less than nothing"),
    ],
)
def test_a_fault_is_one_line_with_place_key_and_what_is_right(given, said):
    message = fault(given)
    assert message.startswith("towers.bird (birds): ")
    assert said in message


def test_the_keys_known_of_a_nested_place_are_its_own():
    assert fault({"song": "c", "maybe": {"x": 1}}).endswith("Known: pooling, width.")


def test_a_misspelt_key_comes_before_the_one_that_is_missing_for_it():
    assert fault({"sogn": "coo"}).startswith("towers.bird (birds): sogn: no such key")


def test_a_fault_of_the_whole_has_no_empty_key():
    assert fault({"song": "c", "volume": -1}, where="birds").startswith("birds: found {'song'")


def test_without_a_place_the_key_comes_first():
    assert fault({}, where="").startswith("song: is missing")


def test_keys_of_somebody_else_beside_them_are_recognised():
    message = fault({"song": "c", "normalise": False}, beside=["normalize", "dim"])
    assert "normalise: no such key; did you mean 'normalize'? Known: dim, layer, " in message
    assert "normalize" not in fault({"song": "c", "layer": {"x": 1}}, beside=["normalize"])


def test_long_values_are_cut():
    assert len(fault({"song": "c", "volume": "x" * 10_000})) < 250


def test_options_cannot_be_changed_and_no_number_is_lost_in_json():
    options = BirdOptions(song="coo", volume=math.inf)
    with pytest.raises(pydantic.ValidationError):
        options.volume = 2.0
    assert BirdOptions.model_validate_json(options.model_dump_json()) == options
    assert options.model_dump(mode="json")["volume"] == math.inf
