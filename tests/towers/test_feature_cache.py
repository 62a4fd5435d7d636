from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msiam_lstm.encoder import LstmEncoder

from msiam.towers import feature_cache
from msiam.towers.embedding import embed_items
from msiam.towers.encoder import Rejected
from msiam.towers.feature_cache import FeatureCache, item_key, prepare_kept, way
from msiam.towers.inference import KEPT, How
from msiam.towers.tower import Tower


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MSIAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tower(texts) -> Tower:
    tower = Tower("letters", dim=4)
    tower.fit(texts)
    return tower


class Counting:
    """Notes what an encoder is given to prepare."""

    def __init__(self, encoder, monkeypatch):
        self.items = []
        prepare = encoder.prepare

        def counted(items):
            self.items += items
            return prepare(items)

        monkeypatch.setattr(encoder, "prepare", counted)


KINDS = st.sampled_from([np.uint8, np.int32, np.int64, np.float32])


@given(found=st.lists(arrays.arrays(KINDS, arrays.array_shapes(max_dims=3, min_side=0))))
def test_arrays_come_back_as_they_were(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    cache = FeatureCache(folder)
    keys = [number.to_bytes(16) for number in range(len(found))]
    for key, array in zip(keys, found, strict=True):
        cache[key] = array
    cache.flush()
    for again in (cache, FeatureCache(folder)):
        for key, array in zip(keys, found, strict=True):
            assert key in again
            assert again[key].dtype == array.dtype
            np.testing.assert_array_equal(again[key], array)
        assert b"x" * 16 not in again


def test_what_is_written_lies_in_its_file_and_is_not_copied(tmp_path):
    cache = FeatureCache(tmp_path)
    for number in range(3):
        cache[bytes([number]) * 16] = np.full((50, 2), number, np.int16)
    cache.flush()
    for number in range(3):
        first, second = cache[bytes([number]) * 16], cache[bytes([number]) * 16]
        assert np.shares_memory(first, second) and not first.flags.writeable
        assert (first == number).all()


def test_an_item_is_prepared_once(place, tower, texts, monkeypatch):
    counting = Counting(tower.encoder, monkeypatch)
    items = [texts[0], None, texts[1], "", texts[0] + "a"]
    first = prepare_kept(tower.encoder, items)
    counting.items.clear()
    again = prepare_kept(tower.encoder, [*items, texts[1] + "b"])
    assert counting.items == [None, "", texts[1] + "b"]  # what is refused is not kept
    for one, other in zip(first, again, strict=False):
        if isinstance(one, Rejected):
            assert one == other
        else:
            np.testing.assert_array_equal(one, other)


def test_without_a_place_nothing_is_kept(place, tower, texts, monkeypatch):
    monkeypatch.setenv("MSIAM_CACHE", "")
    counting = Counting(tower.encoder, monkeypatch)
    for _ in range(2):
        prepare_kept(tower.encoder, texts)
    assert counting.items == [*texts, *texts]
    assert not place.exists()


def test_progress_counts_what_is_kept_as_well(place, tower, texts):
    for _ in range(2):
        done = []
        prepare_kept(tower.encoder, texts * 300, done.append)
        assert sum(done) == 300 * len(texts) and len(done) > 1


def test_a_changed_vocabulary_misses(place, texts):
    one, other = (
        Tower("lstm", dim=4, hidden=4, min_count=1),
        Tower("lstm", dim=4, hidden=4, min_count=1),
    )
    one.fit(["red cat", "blue boat"])
    other.fit(["red cat", "green boat"])
    assert way(one.encoder) != way(other.encoder)
    longer = Tower("lstm", dim=4, hidden=4, min_count=1, max_tokens=9)
    longer.fit(["red cat", "blue boat"])
    assert way(one.encoder) != way(longer.encoder)


def test_weights_that_prepare_does_not_use_change_nothing(place):
    tower = Tower("lstm", dim=4, hidden=4, min_count=1)
    tower.fit(["red cat", "blue boat"])
    before = way(tower.encoder)
    with torch.no_grad():
        for parameter in tower.encoder.parameters():
            parameter.add_(1)
    assert way(tower.encoder) == before


def frozen(texts, **options) -> Tower:
    """With the same vocabulary and weights each time."""
    torch.manual_seed(0)
    tower = Tower("lstm", dim=4, hidden=4, min_count=1, freeze=True, **options)
    tower.fit(texts)
    return tower


def test_what_a_frozen_encoder_has_once_made_is_found_by_another_like_it(place, texts, monkeypatch):
    first = prepare_kept(frozen(texts).encoder, texts)
    again = frozen(texts)
    counting = Counting(again.encoder.encoder, monkeypatch)
    np.testing.assert_array_equal(prepare_kept(again.encoder, texts), first)
    assert counting.items == []


def test_a_changed_weight_of_a_frozen_encoder_misses(place, texts, monkeypatch):
    tower = frozen(texts)
    counting = Counting(tower.encoder.encoder, monkeypatch)
    names = [name for name, _ in tower.encoder.named_parameters()]
    found = [prepare_kept(tower.encoder, texts)]
    for times, name in enumerate(names, start=2):
        with torch.no_grad():
            tower.encoder.get_parameter(name).add_(1)
        found.append(prepare_kept(tower.encoder, texts))
        assert counting.items == texts * times, name
    np.testing.assert_array_equal(found[-1], tower.encoder.prepare(texts))
    assert not np.array_equal(found[0], found[-1])


@pytest.mark.parametrize("option", [{"pooling": "mean"}, {"max_tokens": 1}], ids=str)
def test_a_changed_option_of_a_frozen_encoder_misses(place, texts, monkeypatch, option):
    tower, other = frozen(texts), frozen(texts, **option)
    for name, weight in tower.encoder.state_dict().items():
        assert torch.equal(weight, other.encoder.state_dict()[name])
    first = prepare_kept(tower.encoder, texts)
    counting = Counting(other.encoder.encoder, monkeypatch)
    changed = prepare_kept(other.encoder, texts)
    assert counting.items == texts
    assert not np.array_equal(first, changed)
    np.testing.assert_array_equal(changed, other.encoder.prepare(texts))


def test_a_changed_item_of_a_frozen_encoder_misses_alone(place, texts, monkeypatch):
    tower = frozen(texts)
    first = prepare_kept(tower.encoder, texts)
    counting = Counting(tower.encoder.encoder, monkeypatch)
    changed = prepare_kept(tower.encoder, [texts[0], f"{texts[1]} {texts[2]}", *texts[2:]])
    assert counting.items == [f"{texts[1]} {texts[2]}"]
    same = [np.array_equal(one, other) for one, other in zip(first, changed, strict=True)]
    assert same == [True, False] + [True] * (len(texts) - 2)


def test_a_file_that_is_overwritten_misses_in_a_frozen_encoder(place, tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("a.pix", "b.pix")]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number] * 4))
    tower = Tower("pixels", dim=4, freeze=True)
    tower.fit([])
    items = [str(file) for file in files]
    first = prepare_kept(tower.encoder, items)
    files[1].write_bytes(b"\xff" * 4)
    counting = Counting(tower.encoder.encoder, monkeypatch)
    changed = prepare_kept(tower.encoder, items)
    assert counting.items == items[1:]
    np.testing.assert_array_equal(first[0], changed[0])
    assert not np.array_equal(first[1], changed[1])


def test_a_table_is_embedded_once_by_a_frozen_tower(place, texts, monkeypatch):
    tower = Tower("letters", dim=4, freeze=True)
    tower.fit(texts)
    counting = Counting(tower.encoder.encoder, monkeypatch)
    first, _ = embed_items(tower, texts, how=KEPT)
    again, rejected = embed_items(tower, [*texts, ""], how=KEPT)
    assert counting.items == [*texts, ""]
    np.testing.assert_array_equal(first, again)
    assert [number for number, _ in rejected] == [len(texts)]
    embed_items(tower, texts)  # items that come but once
    assert counting.items == [*texts, "", *texts]


def test_pictures_of_another_size_or_fit_miss(place):
    kinds = [
        {"size": 32},
        {"size": 40},
        {"size": 32, "fit": "stretch"},
        {"size": 32, "fit": "crop"},
    ]
    ways = set()
    for options in kinds:
        tower = Tower("small_cnn", dim=4, **options)
        tower.fit([])
        ways.add(way(tower.encoder))
    assert len(ways) == len(kinds)


def test_a_file_of_another_content_has_another_key(tmp_path):
    file, other = tmp_path / "a.png", tmp_path / "b.png"
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    os.utime(other, ns=(1, 1))
    os.utime(file, ns=(1, 1))
    before = item_key(str(file))
    assert item_key(str(file)) == before == item_key(file)
    shutil.copy2(other, file)  # of the same size, and as old
    assert item_key(str(file)) != before
    before = item_key(str(file))
    other.replace(file)
    assert item_key(str(file)) != before


def test_items_of_different_content_have_different_keys():
    pixels = np.arange(12, dtype=np.uint8)
    items = ["a", "b", "", b"a", b"b", 1, 1.0, True, "1", pixels, pixels.reshape(3, 4), pixels + 1]
    keys = [item_key(item) for item in [*items, {"bytes": b"c", "path": None}]]
    assert None not in keys and len(set(keys)) == len(keys)
    assert item_key({"bytes": b"a", "path": "x"}) == item_key(b"a")
    assert item_key(object()) is None


def test_a_damaged_file_is_removed_and_its_items_prepared_again(place, tower, texts):
    first = prepare_kept(tower.encoder, texts)
    (file,) = place.rglob("*.arrow")
    content = file.read_bytes()
    file.unlink()  # what has been found lies in it, and stays
    file.write_bytes(content[:40])
    feature_cache._opened.cache_clear()  # as another process would find it
    for one, other in zip(first, prepare_kept(tower.encoder, texts), strict=True):
        np.testing.assert_array_equal(one, other)
    assert file not in list(place.rglob("*.arrow"))


def test_much_is_written_in_several_files(place, tower, texts, monkeypatch):
    monkeypatch.setattr(feature_cache, "ENOUGH", 64)
    found = prepare_kept(tower.encoder, [f"{text}{'ab' * n}" for n in range(40) for text in texts])
    assert len(list(place.rglob("*.arrow"))) > 2 and not list(place.rglob("*.draft"))
    for one, other in zip(
        found,
        tower.encoder.prepare([f"{text}{'ab' * n}" for n in range(40) for text in texts]),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_where_nothing_can_be_written_the_work_goes_on(place, tower, texts):
    place.write_text("a file")
    with pytest.warns(UserWarning, match="not kept for the next run: .* cannot be written"):
        found = prepare_kept(tower.encoder, texts)
    for one, other in zip(found, tower.encoder.prepare(texts), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_that_cannot_be_opened_just_now_stays(place, tower, texts, monkeypatch):
    prepare_kept(tower.encoder, texts)
    (file,) = place.rglob("*.arrow")

    def fail(path):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(feature_cache.pa, "memory_map", fail)
    with pytest.raises(OSError, match="too many"):
        FeatureCache(file.parent)
    assert file.exists()


ENCODER = """
import torch
from msiam_lstm.encoder import LstmEncoder

class Mine(LstmEncoder):
    times = {times}
"""


def test_changed_code_misses(tmp_path, monkeypatch):
    """The encoder's package as it is, and as it is after an edit in a folder inside it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own" / "inside").mkdir(parents=True)
    (tmp_path / "own" / "__init__.py").touch()
    source = tmp_path / "own" / "inside" / "encoder.py"
    ways = set()
    for times in (1, 2):
        source.write_text(ENCODER.format(times=times))
        for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        encoder = importlib.import_module("own.inside.encoder").Mine(
            LstmEncoder.Options(hidden=4, min_count=1)
        )
        encoder.fit(["red cat"])
        ways.add(way(encoder))
    assert len(ways) == 2 and None not in ways


def test_an_encoder_whose_code_has_no_file_keeps_nothing(place, texts, monkeypatch):
    class Nowhere(LstmEncoder):
        pass

    monkeypatch.setitem(sys.modules, "nowhere", types.ModuleType("nowhere"))
    Nowhere.__module__ = "nowhere"
    encoder = Nowhere(LstmEncoder.Options(hidden=4, min_count=1))
    encoder.fit(texts)
    assert way(encoder) is None
    assert len(prepare_kept(encoder, texts)) == len(texts)
    assert not place.exists()


def test_what_is_long_unread_is_removed_and_what_was_left_half_written(place, tower, texts):
    prepare_kept(tower.encoder, texts)
    (file,) = place.rglob("*.arrow")
    drafts = [file.with_name(f".{name}.arrow.1.draft") for name in ("old", "new")]
    unread = place / "unread"
    unread.mkdir()
    for draft in drafts:
        draft.touch()
    os.utime(drafts[0], (1, 1))
    os.utime(unread, (1, 1))
    feature_cache._tidy.cache_clear()
    prepare_kept(tower.encoder, texts)
    assert file.exists() and [draft.exists() for draft in drafts] == [False, True]
    assert not unread.exists()


def test_a_frozen_encoder_embeds_as_it_is_told_and_keeps_exact_vectors_alone(place, texts):
    tower = Tower("lstm", dim=4, hidden=4, min_count=1, freeze=True)
    tower.fit(texts)
    exact, _ = embed_items(tower, texts, how=KEPT)
    rough, _ = embed_items(tower, texts, how=How(precision="bf16", keep=True))
    again, _ = embed_items(tower, texts, how=KEPT)
    np.testing.assert_array_equal(exact, again)
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(exact, rough, atol=0.05)
