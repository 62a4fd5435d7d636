from __future__ import annotations

import numpy as np
import pytest
import torch

from msiam.towers.embedding import chunks, embed_features, embed_items, located
from msiam.towers.inference import How
from msiam.towers.model import Model
from msiam.towers.tower import Tower


@pytest.fixture
def tower(texts) -> Tower:
    torch.manual_seed(0)
    tower = Tower("letters", dim=4)
    tower.fit(texts)
    return tower.eval()


@pytest.fixture
def mixed() -> list[str]:
    """Texts of lengths that go up and down."""
    return ["ab" * (1 + 7 * number % 11) for number in range(23)]


@pytest.mark.parametrize("batch_size", [1, 3, 23, 64])
def test_the_order_is_kept_whatever_the_lengths_and_batches(tower, mixed, batch_size):
    features = tower.encoder.prepare(mixed)
    found = embed_features(tower, features, how=How(batch_size))
    alone = np.concatenate([embed_features(tower, [feature]) for feature in features])
    assert (found.shape, found.dtype) == ((23, 4), np.float32)
    np.testing.assert_allclose(found, alone, atol=1e-6)


def test_a_batch_holds_features_of_like_length_the_longest_first(tower, mixed, monkeypatch):
    lengths, collate = [], tower.encoder.collate

    def record(features):
        lengths.append([len(feature) for feature in features])
        return collate(features)

    monkeypatch.setattr(tower.encoder, "collate", record)
    embed_features(tower, tower.encoder.prepare(mixed), how=How(5))
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(map(len, mixed), reverse=True)
    room = tower.encoder.budget
    assert all(len(batch) <= 5 and len(batch) * batch[0] <= room for batch in lengths)


def test_embedding_is_in_evaluation_and_leaves_training_as_it_was(texts):
    tower = Tower("letters", dim=4, head="mlp")  # with dropout
    tower.fit(texts)
    tower.train()
    features = tower.encoder.prepare(texts)
    assert np.array_equal(embed_features(tower, features), embed_features(tower, features))
    assert tower.training
    assert tower.head.training


def test_training_goes_on_after_an_encoder_that_fails(tower, monkeypatch):
    tower.train()
    monkeypatch.setattr(tower.encoder, "collate", lambda features: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        embed_features(tower, [np.zeros(1, np.int64)])
    assert tower.training


def test_a_tower_without_any_weight(texts):
    tower = Tower("length", dim=2, head="none", normalize=False)
    tower.fit(texts)
    vectors, _ = embed_items(tower, texts)
    assert vectors[:, 0].tolist() == [len(text) for text in texts]


def test_progress_counts_every_feature(tower, mixed):
    done = []
    embed_features(tower, tower.encoder.prepare(mixed), done.append)
    assert sum(done) == len(mixed) and len(done) > 1


def test_items_that_cannot_be_read_are_set_aside_with_number_and_reason(tower, texts):
    items = [texts[0], "", texts[1], None, texts[2]]
    vectors, rejected = embed_items(tower, items)
    right, _ = embed_items(tower, texts[:3])
    np.testing.assert_allclose(vectors, right, atol=1e-6)
    assert rejected == [(1, "no letters in it"), (3, "no letters in it")]


def test_numbers_of_rejected_items_count_through_all_chunks(tower):
    items = ["a"] * 5000
    items[4999] = items[7] = ""
    vectors, rejected = embed_items(tower, items, how=How(1000))
    assert len(vectors) == 4998
    assert [number for number, _ in rejected] == [7, 4999]


def test_no_items_and_none_that_can_be_read(tower):
    for items in ([], [""]):
        vectors, rejected = embed_items(tower, items)
        assert (vectors.shape, vectors.dtype) == ((0, 4), np.float32)
        assert len(rejected) == len(items)


def test_chunks_are_all_items_in_order():
    assert list(chunks([1, 2, 3, 4, 5], 2)) == [(0, [1, 2]), (2, [3, 4]), (4, [5])]


# ---- Files beside their table


@pytest.fixture
def pictures() -> Tower:
    tower = Tower("pixels", dim=2)
    tower.fit([])
    return tower


def test_a_relative_name_is_looked_for_beside_its_table(tmp_path, monkeypatch, pictures):
    monkeypatch.chdir(tmp_path)
    beside = str(tmp_path / "table" / "a.pix")
    assert located("a.pix", tmp_path / "table", pictures.encoder) == beside
    assert located("./b/../a.pix", tmp_path / "table", pictures.encoder) == beside
    assert located("a.pix", None, pictures.encoder) == str(tmp_path / "a.pix")


@pytest.mark.parametrize("item", ["", "a\0b", b"1234", None, 3, {"bytes": b"12", "path": "a.pix"}])
def test_what_names_no_file_stays_as_it_is(item, tmp_path, pictures):
    assert located(item, tmp_path, pictures.encoder) is item


@pytest.mark.parametrize("path", ["a.pix", None])
def test_a_picture_that_has_no_bytes_is_its_path(path, tmp_path, pictures):
    (tmp_path / "a.pix").write_bytes(b"1234")
    model = Model({"p": pictures}, {"p": "p"})
    vectors, rejected = model.embed("p", [{"bytes": None, "path": path}], tmp_path)
    if path:
        np.testing.assert_array_equal(vectors, model.encode({"p": [b"1234"]})["p"])
    else:
        assert rejected == [(0, "no file None")]


@pytest.mark.parametrize("item", ["x" * 10_000, "a\0b", "", None])
def test_what_can_be_no_file_is_set_aside(item, tmp_path, pictures):
    _, ((number, reason),) = embed_items(pictures, [item], root=tmp_path)
    assert number == 0 and reason.startswith("no file")


def test_only_an_encoder_that_reads_files_looks_for_them(tmp_path, tower, pictures):
    (tmp_path / "ab").write_bytes(b"1234")
    (tmp_path / "a.pix").write_bytes(b"1234")
    beside, _ = embed_items(tower, ["ab"], root=tmp_path)
    plain, _ = embed_items(tower, ["ab"])
    assert np.array_equal(beside, plain)
    vectors, rejected = embed_items(pictures, ["a.pix", "b.pix"], root=tmp_path)
    assert len(vectors) == 1
    assert rejected == [(1, f"no file '{tmp_path / 'b.pix'}'")]
