from __future__ import annotations

import math

import pytest
import torch

from msiam.errors import ModelError, PluginError, RecipeError
from msiam.towers.tower import Tower


def fitted(*arguments, **options) -> Tower:
    tower = Tower(*arguments, **options)
    tower.fit(["abc", "a longer text"])
    return tower.eval()


def embed(tower: Tower, *items: str) -> torch.Tensor:
    return tower(tower.encoder.collate(tower.encoder.prepare(items)))


def test_options_go_to_the_tower_and_to_its_encoder():
    tower = Tower("letters", dim=7, head="mlp", width=3)
    assert (tower.options.dim, tower.options.head) == (7, "mlp")
    assert tower.encoder.options.width == 3


def test_embeddings_have_the_towers_width_and_length_1():
    vectors = embed(fitted("letters", dim=7), "abc", "b", "text")
    assert vectors.shape == (3, 7)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_embeddings_keep_their_length_where_the_recipe_says_so():
    tower = fitted("length", dim=2, head="none", normalize=False)
    assert embed(tower, "abc", "x").tolist() == [[3.0, 1.0], [1.0, 1.0]]


def test_in_half_precision_the_embedding_is_normalised_in_float32():
    tower = fitted("letters", dim=7).bfloat16()
    vectors = embed(tower, "abc")
    assert vectors.dtype == torch.float32
    assert vectors.norm().item() == pytest.approx(1, abs=1e-6)


def test_gradients_reach_head_and_encoder():
    tower = fitted("letters", dim=7)
    embed(tower, "abc", "b")[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())


def test_without_weights_it_says_what_is_missing():
    with pytest.raises(ModelError, match="no weights before it is trained or loaded"):
        Tower("length", dim=2)({})


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (
            {"encoder": "leters"},
            PluginError,
            "towers.t: no encoder 'leters'; did you mean 'letters'",
        ),
        (
            {"widht": 3},
            RecipeError,
            "towers.t (letters): widht: no such key; did you mean 'width'?",
        ),
        ({"normalise": False}, RecipeError, "normalise: no such key; did you mean 'normalize'?"),
        (
            {"where": "x"},
            RecipeError,
            "towers.t (letters): where: no such key; Known: dim, encoder",
        ),
        ({"width": 0}, RecipeError, "towers.t (letters): width: found 0; Input should be greater"),
        ({"dim": 0}, RecipeError, "towers.t: dim: found 0; Input should be greater than 0"),
        ({"head": "lstm"}, RecipeError, "towers.t: head: found 'lstm'; Input should be 'linear', "),
        ({"encoder": 3}, RecipeError, "towers.t: encoder: found 3; Input should be a valid string"),
    ],
)
def test_a_wrong_option_names_the_place_the_key_and_what_is_right(options, kind, said):
    keys = {"encoder": "letters", **options}
    with pytest.raises(kind) as raised:
        Tower(keys.pop("encoder"), "towers.t", **keys)
    assert said in str(raised.value)


def test_a_head_that_does_not_fit_names_the_tower():
    tower = Tower("letters", "towers.title", dim=7, head="none")
    with pytest.raises(RecipeError, match=r"towers.title.head: none keeps .* is 6, and dim is 7"):
        tower.fit(["abc"])


@pytest.mark.parametrize(
    "options",
    [{}, {"dim": 3, "head": "mlp", "normalize": False, "learning_rate": 1e-5, "width": 9}],
)
def test_described_it_can_be_made_again(options):
    tower = Tower("letters", **options)
    keys = tower.describe()
    again = Tower(keys.pop("encoder"), **keys)
    assert again.options == tower.options
    assert again.encoder.options == tower.encoder.options


def test_the_description_says_every_option_for_defaults_may_change():
    assert Tower("letters").describe() == {
        "encoder": "letters",
        "dim": 256,
        "head": "linear",
        "normalize": True,
        "freeze": False,
        "width": 6,  # the preset's
        "tied": False,
    }


def test_restored_it_has_all_weights(tmp_path):
    tower = fitted("letters", dim=7)
    tower.encoder.save(tmp_path)
    again = Tower("letters", dim=7)
    assert not again.ready
    again.restore(tmp_path)
    assert again.ready
    again.load_state_dict(tower.state_dict())
    assert torch.equal(embed(again.eval(), "abc"), embed(tower, "abc"))


def test_parameters_are_counted():
    tower = fitted("length", dim=3)
    assert tower.parameter_count() == math.prod((2, 3)) + 3
