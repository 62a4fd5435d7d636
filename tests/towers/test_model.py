from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from msiam import Model, Tower
from msiam.errors import DataError, ModelError, PluginError, RecipeError
from msiam.towers.model import tower_name

LETTERS = {"encoder": "letters", "dim": 4}


def fit(model: Model, items) -> Model:
    for name in model.towers:
        model.tower(name).fit(items)
    return model.eval()


# ---- Towers and columns


def test_columns_that_share_a_tower_share_the_very_same_one(model):
    assert model.tower_of("caption") is model.tower_of("query")
    assert model.tower_of("caption") is not model.tower_of("name")
    vectors = model.encode({"caption": ["abc"], "query": ["abc"]})
    assert np.array_equal(vectors["caption"], vectors["query"])


def test_a_shared_tower_has_its_weights_once():
    shared = fit(Model({"t": LETTERS}, {"a": "t", "b": "t"}), ["abc"])
    pair = fit(Model({"t": LETTERS, "u": LETTERS}, {"a": "t", "b": "u"}), ["abc"])
    count = [sum(p.numel() for p in m.parameters()) for m in (shared, pair)]
    assert count[1] == 2 * count[0]


def test_towers_may_be_made_before():
    tower = Tower("letters", dim=4)
    assert Model({"t": tower}, {"a": "t", "b": "t"}).tower("t") is tower


@pytest.mark.parametrize(
    ("towers", "columns", "said"),
    [
        (
            {"text": LETTERS},
            {"a": "text", "b": "txet"},
            "columns.b: no tower 'txet'; did you mean 'te",
        ),
        (
            {"t": LETTERS, "u": LETTERS},
            {"a": "t"},
            "towers.u: no column goes through it; name it in",
        ),
        (
            {"t": LETTERS, "u": {**LETTERS, "dim": 5}},
            {"a": "t", "b": "u"},
            "towers: embeddings must have one width to be compared; dim is {'t': 4, 'u': 5}",
        ),
        ({"t": {"dim": 4}}, {"a": "t"}, "towers.t.encoder: is missing; name an encoder"),
        (
            {"shared": LETTERS, "a": {"hidden": 3}},
            {"a": "shared"},
            "towers.a.encoder: is missing; name an encoder, see msiam plugins; or give its columns"
            " a tower that has one: shared",
        ),
        ({"t": {**LETTERS, "where": 1}}, {"a": "t"}, "towers.t (letters): where: no such key"),
        ({"items": LETTERS}, {"a": "items"}, "towers.items: a tower's name has letters, digits"),
        ({"a.b": LETTERS}, {"a": "a.b"}, "for example a_b_tower"),
        ({"../up": LETTERS}, {"a": "../up"}, "towers.../up: a tower's name"),
        ({"": LETTERS}, {"a": ""}, "a tower's name has letters"),
    ],
)
def test_towers_and_columns_that_do_not_fit(towers, columns, said):
    with pytest.raises(RecipeError) as raised:
        Model(towers, columns)
    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["text", "título", "a-b_1", "画像"])
def test_names_that_a_tower_may_have(name, tmp_path):
    model = fit(Model({name: LETTERS}, {"a": name}), ["abc"])
    assert list(Model.load(model.save(tmp_path / "m")).towers) == [name]


@pytest.mark.parametrize("like", ["items", "type", "a.b", "../up", "", "-a", "Été 1", "a_b"])
def test_a_name_like_one_that_a_tower_may_not_have_is_one_that_it_may(like):
    name = tower_name(like)
    assert Model({name: LETTERS}, {"a": name}) and tower_name(name) == name
    assert (name == like) == (like == "a_b")


def test_an_unknown_encoder_names_its_tower():
    with pytest.raises(PluginError, match=r"towers.t: no encoder 'leters'; did you mean 'letters'"):
        Model({"t": {"encoder": "leters"}}, {"a": "t"})


def test_described_it_can_be_made_again(model):
    again = Model(**model.describe())
    assert again.describe() == model.describe()
    assert list(again.columns) == list(model.columns)


def test_forward_takes_batches_by_tower(model, texts):
    encoder = model.tower("text").encoder
    embeddings = model({"text": encoder.collate(encoder.prepare(texts))})
    assert list(embeddings) == ["text"]
    assert embeddings["text"].shape == (len(texts), 4)


# ---- Encoding


def test_items_are_encoded_by_column_in_their_order(model, texts):
    found = model.encode({"caption": texts, "picture": [b"abcd", b"efgh"]}, batch_size=2)
    assert {column: vectors.shape for column, vectors in found.items()} == {
        "caption": (5, 4),
        "picture": (2, 4),
    }
    backwards = model.encode({"caption": texts[::-1]})["caption"][::-1]
    np.testing.assert_allclose(found["caption"], backwards, atol=1e-6)
    assert found["caption"].dtype == np.float32


def test_an_item_that_cannot_be_read_is_named(model, texts):
    with pytest.raises(DataError, match="column 'caption', item 2: no letters in it"):
        model.encode({"caption": [*texts[:2], ""]})


@pytest.mark.parametrize("item", ["a red heart", b"1234"])
def test_one_item_is_no_list_of_items(model, item):
    with pytest.raises(DataError, match=r"column 'caption': found one item, .*; give a list"):
        model.encode({"caption": item})


def test_an_unknown_column_is_named_with_the_nearest(model):
    with pytest.raises(DataError, match="no column 'captoin'; did you mean 'caption'"):
        model.encode({"captoin": ["abc"]})


def test_a_model_without_weights_says_so():
    model = Model({"t": LETTERS}, {"a": "t"})
    assert not model.ready
    with pytest.raises(ModelError, match="no weights yet; train it, load one with"):
        model.encode({"a": ["abc"]})


def test_a_file_that_was_changed_is_not_restored(model, texts, tmp_path):
    again = Model(**model.describe())
    folder = model.save(tmp_path / "m")
    again.restore(folder)
    assert np.array_equal(again.eval().encode({"caption": texts})["caption"],
                          model.encode({"caption": texts})["caption"])  # fmt: skip
    alphabet = folder / "towers" / "text" / "alphabet.json"
    alphabet.write_text(json.dumps(json.loads(alphabet.read_text())[::-1]))
    with pytest.raises(ModelError, match=r"alphabet\.json: has changed since it was saved"):
        again.restore(folder)


# ---- Which column reads a query


@pytest.mark.parametrize(
    ("query", "but", "column"),
    [
        ("a red heart", None, "caption"),
        ("a red heart", "caption", "query"),
        ("heart.pix", None, "picture"),
        (b"1234", None, "picture"),
        (b"1234", "picture", "picture"),  # no other reads it
        ("heart.pix", "picture", "picture"),
    ],
)
def test_a_query_goes_to_the_column_that_reads_it(model, query, but, column):
    assert model.column_for(query, but) == column


def test_a_text_that_ends_like_a_files_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model.column_for("what is .pix") == "caption"
    assert model.column_for("my heart.pix", "caption") == "query"
    (tmp_path / "my heart.pix").write_bytes(b"1234")
    assert model.column_for("my heart.pix") == "picture"
    assert fit(Model({"i": {"encoder": "pixels"}}, {"i": "i"}), []).column_for("a b.pix") == "i"


def test_a_file_that_is_not_there_is_no_text(model):
    """It goes where it says what is wrong."""
    column = model.column_for("mistyped.pix")
    with pytest.raises(DataError, match=r"column 'picture', item 0: no file '.*mistyped\.pix'"):
        model.encode({column: ["mistyped.pix"]})


def test_a_query_that_nothing_reads(model):
    with pytest.raises(
        DataError, match=r"no column reads 3\.5; the model reads .*'caption': 'text'"
    ):
        model.column_for(3.5)


# ---- Fingerprints


def test_the_fingerprint_changes_with_whatever_changes_an_embedding(model):
    before = model.fingerprint()
    changes = [
        (model.tower("text").encoder.embedding, "weight"),
        (model.tower("title").head[4], "bias"),
        (model.tower("image").head, "weight"),
    ]
    for module, name in changes:
        weight = getattr(module, name)
        with torch.no_grad():
            weight.view(-1)[-1] += 1e-3
            assert model.fingerprint() != before
            weight.view(-1)[-1] -= 1e-3
    tower = model.tower("text")
    tower.options = tower.options.model_copy(update={"normalize": False})
    assert model.fingerprint() != before


def test_the_fingerprint_knows_which_tower_reads_which_column():
    model = fit(Model({"t": LETTERS, "u": LETTERS}, {"a": "t", "b": "u"}), ["abc"])
    before = model.fingerprint()
    model.columns = {"a": "u", "b": "t"}
    assert model.fingerprint() != before
    model.columns = {"b": "u", "a": "t"}  # another order, and the same embeddings
    assert model.fingerprint() == before


def test_in_half_precision_there_is_a_fingerprint_too(model):
    assert model.bfloat16().fingerprint() != ""
