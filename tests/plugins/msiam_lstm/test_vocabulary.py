"""How a text becomes numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msiam_lstm import vocabulary
from tokenizers import decoders


def test_texts_of_leaves_the_others_out():
    assert list(vocabulary.texts_of(["a", None, "", 3, "b"], "lstm")) == ["a", "b"]


def test_words_are_lowercased_and_punctuation_stands_alone():
    assert vocabulary.words_of("Isn't it (IT)?") == ["isn", "'", "t", "it", "(", "it", ")", "?"]


def test_accents_stay_and_chinese_characters_are_words():
    assert vocabulary.words_of("Café 日本") == ["café", "日", "本"]


def test_words_are_counted_most_frequent_first_and_equals_by_the_alphabet():
    counts = vocabulary.count_words(["d b", "c b", "a"])
    assert list(counts.items()) == [("b", 2), ("a", 1), ("c", 1), ("d", 1)]


def test_words_are_numbered_in_order_after_padding_and_unknown():
    tokenizer = vocabulary.word_tokenizer(["how", "?"])
    assert tokenizer.encode("HOW so?").ids == [2, 1, 3]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Co", "Cn"])))
def test_byte_pairs_know_every_text(text):
    tokenizer = vocabulary.byte_pair_tokenizer(["a few words", "a few more"], 300, 1)
    tokenizer.decoder = decoders.ByteLevel()
    said = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
    assert said.split() == tokenizer.normalizer.normalize_str(text).split()


def test_byte_pairs_join_what_is_frequent():
    tokenizer = vocabulary.byte_pair_tokenizer(["banana"] * 5, 300, 2)
    assert len(tokenizer.encode("banana").ids) == 1
