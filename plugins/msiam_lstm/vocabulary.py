"""Turns texts into numbers, by a tokenizer learnt from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from msiam import errors, text_of

SPECIAL = ["[PAD]", "[UNK]"]


def texts_of(items: Iterable[object], encoder: str) -> Iterator[str]:
    """Those of the items that are texts; ``encoder``: who asks, for the message.

    Raises:
        DataError: none is.
    """
    texts = (text for text in map(text_of, items) if isinstance(text, str))
    first = next(texts, None)
    if first is None:
        raise errors.DataError(f"encoder '{encoder}': no text to learn a vocabulary from")
    return chain([first], texts)


def _normalizer() -> normalizers.Normalizer:
    # Lower case, one kind of blank, and each Chinese character a word; accents stay.
    return normalizers.BertNormalizer(lowercase=True, strip_accents=False)


def words_of(text: str) -> list[str]:
    """The text's lowercased words and punctuation marks, in order."""
    pieces = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(_normalizer().normalize_str(text))
    return [word for word, _ in pieces]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, the most frequent first and equals by the alphabet."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words_of(text))
    return Counter(dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))))


def word_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A tokenizer that knows these words, numbered in order after the two special ones."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def byte_pair_tokenizer(texts: Iterable[str], size: int, min_count: int) -> Tokenizer:
    """Byte pairs learnt from the texts (Sennrich et al., 2016), over bytes: nothing is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
