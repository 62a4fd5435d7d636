"""The `text_cnn` encoder: what its filters see, and that padding touches nothing."""

import numpy as np
import pytest
import torch
from msiam_lstm.text_cnn import TextCnn, TextCnnOptions
from pydantic import ValidationError

from msiam import errors

TEXTS = ["swim", "how do i learn to swim", "honey or sugar , is honey the better of the two ?"]


def encoder(**options):
    torch.manual_seed(0)
    made = TextCnn(TextCnnOptions(min_count=1, embedding=6, filters=4, **options))
    made.fit(TEXTS)
    return made.eval()


@pytest.mark.parametrize("windows", [(3, 4, 5), (1,), (2, 7)])
def test_each_filter_gives_its_maximum_over_the_text(windows):
    made = encoder(windows=windows)
    features = made.prepare(TEXTS)
    with torch.no_grad():
        vectors = made(made.collate(features))
        assert made.dim == vectors.shape[1] == 4 * len(windows)
        for vector, feature in zip(vectors, features, strict=True):
            words = made.embedding(torch.from_numpy(feature.astype(np.int64)))
            expected = []
            for window, filters in zip(windows, made.reader, strict=True):
                edge = torch.zeros(window - 1, 6)
                padded = torch.cat([edge, words, edge])
                seen = [
                    (filters.weight * padded[i : i + window].T).sum((1, 2)) + filters.bias
                    for i in range(len(padded) - window + 1)
                ]
                expected.append(torch.stack(seen).relu().amax(0))
            assert torch.allclose(vector, torch.cat(expected), atol=1e-5)


def test_a_text_is_the_same_alone_and_beside_longer_ones():
    made = encoder()
    features = made.prepare(TEXTS)
    with torch.no_grad():
        together = made(made.collate(features))
        alone = torch.cat([made(made.collate([feature])) for feature in features])
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("options", [{"windows": []}, {"windows": [0]}, {"hidden": 8}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValidationError):
        TextCnnOptions(**options)


@pytest.mark.parametrize("texts", [[], ["once"]])
def test_its_errors_name_it(texts):
    with pytest.raises(errors.DataError, match="encoder 'text_cnn': no "):
        TextCnn(TextCnnOptions(min_count=2)).fit(texts)
