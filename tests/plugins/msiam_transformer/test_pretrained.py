"""Pretrained models: where they are found, what sentence-transformers adds, what is refused."""

from __future__ import annotations

import json

import huggingface_hub.constants
import pytest
import torch
from msiam_transformer import pretrained as subject
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from msiam import errors

KEPT = {"dropout": None, "attention_dropout": None}


def refused(call, *parts):
    with pytest.raises(errors.ModelError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def load(folder, **dropouts):
    return subject.load(subject.read_layout(folder, None), KEPT | dropouts)


def test_finds_a_folder_through_a_variable(pretrained, monkeypatch):
    monkeypatch.setenv("MODELS", str(pretrained.parent))
    assert subject.find_folder("${MODELS}/tiny") == pretrained


@pytest.mark.parametrize("name", ["./none", "/no/such/folder", "a/b/c"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name):
    refused(lambda: subject.find_folder(name), "no such folder")


def test_a_file_is_not_a_folder(pretrained):
    file = pretrained / "config.json"
    refused(lambda: subject.find_folder(str(file)), str(file), "no such folder")


def test_a_hub_name_without_a_network_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refused(lambda: subject.find_folder("some/model"), "model 'some/model'", "the hub")


def test_a_plain_folder_has_the_users_pooling_or_none(pretrained):
    assert subject.read_layout(pretrained, None) == subject.Layout(pretrained)
    assert subject.read_layout(pretrained, "cls").pooling == "cls"


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"embedding_dimension": 16, "pooling_mode": "max", "include_prompt": True}, "max"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_reads_both_styles_of_pooling(as_sentence_transformer, settings, pooling):
    folder = as_sentence_transformer(settings, max_seq_length=9, do_lower_case=True)
    layout = subject.read_layout(folder, None)
    assert layout == subject.Layout(folder, pooling, max_tokens=9, lowercase=True)
    assert subject.read_layout(folder, "mean").pooling == "mean"


def test_finds_a_transformer_in_a_folder_of_its_own(as_sentence_transformer):
    folder = as_sentence_transformer({"pooling_mode": "cls"})
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert subject.read_layout(folder, None).folder == folder / "0_Transformer"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, "max and mean"),
        ({}, "nothing"),
    ],
)
def test_a_pooling_that_is_not_known_has_to_be_set(as_sentence_transformer, settings, what):
    folder = as_sentence_transformer(settings)
    refused(lambda: subject.read_layout(folder, None), what, "mean, cls, max, last")
    assert subject.read_layout(folder, "max").pooling == "max"


def test_a_module_that_is_not_known_is_left_out_only_if_asked(as_sentence_transformer):
    folder = as_sentence_transformer({}, modules=("Transformer", "Pooling", "Dense"))
    refused(lambda: subject.read_layout(folder, None), "Dense", "set `pooling`")
    assert subject.read_layout(folder, "mean").pooling == "mean"


def test_a_folder_without_a_transformer_is_refused(as_sentence_transformer):
    folder = as_sentence_transformer({}, modules=("StaticEmbedding",))
    refused(lambda: subject.read_layout(folder, "mean"), "StaticEmbedding")


def test_a_broken_json_is_named(as_sentence_transformer):
    folder = as_sentence_transformer({})
    (folder / "modules.json").write_text("[{")
    refused(lambda: subject.read_layout(folder, None), "modules.json", "JSON")


def test_a_json_of_another_kind_is_named(as_sentence_transformer):
    folder = as_sentence_transformer([])
    refused(lambda: subject.read_layout(folder, None), "1_Pooling/config.json", "not a dict")


def test_a_pickle_is_not_opened(pretrained):
    (pretrained / "model.safetensors").unlink()
    torch.save({}, pretrained / "pytorch_model.bin")
    refused(lambda: load(pretrained), str(pretrained), "pickle", "safetensors")


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    refused(lambda: load(tmp_path), str(tmp_path), "no config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_broken_file_gets_one_line(pretrained, name):
    (pretrained / name).write_text('{"broken')
    refused(lambda: load(pretrained), str(pretrained), "does not load")


def test_a_folder_without_a_tokenizer_is_refused(pretrained):
    for file in pretrained.glob("*token*"):
        file.unlink()
    refused(lambda: load(pretrained), "its tokenizer has 5 tokens")


def test_a_tokenizer_of_another_model_is_refused(pretrained):
    made = AutoTokenizer.from_pretrained(pretrained)
    made.add_tokens(["more", "than", "there", "are", "rows"])
    made.save_pretrained(pretrained)
    size = len(made)
    refused(lambda: load(pretrained), f"{size} tokens, its model {size - 5}")


def test_missing_weights_are_counted(pretrained):
    weights = load_file(pretrained / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, pretrained / "model.safetensors", metadata={"format": "pt"})
    refused(lambda: load(pretrained), "lack 1", "encoder.layer.1.output.dense.weight")


def test_code_in_a_model_folder_is_not_run(pretrained):
    config = json.loads((pretrained / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
    (pretrained / "config.json").write_text(json.dumps(config))
    marker = pretrained / "ran"
    (pretrained / "mine.py").write_text(f"open({str(marker)!r}, 'w')")
    refused(lambda: load(pretrained), "does not load")
    assert not marker.exists()


def test_half_precision_weights_are_loaded_in_float32(pretrained):
    weights = load_file(pretrained / "model.safetensors")
    halves = {name: weight.half() for name, weight in weights.items()}
    save_file(halves, pretrained / "model.safetensors", metadata={"format": "pt"})
    assert all(p.dtype == torch.float32 for p in load(pretrained).model.parameters())


def test_loading_prints_nothing(pretrained, capfd):
    load(pretrained)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_dropouts_reach_the_model(pretrained):
    model = load(pretrained, dropout=0.2, attention_dropout=0.0).model
    assert model.encoder.layer[0].output.dropout.p == 0.2
    assert model.encoder.layer[0].attention.self.dropout.p == 0


def test_lowercase_goes_before_the_tokenizers_own(as_sentence_transformer):
    folder = as_sentence_transformer({"pooling_mode": "cls"}, do_lower_case=True)
    tokenizer = load(folder).tokenizer
    assert tokenizer.encode("SWIM").ids == tokenizer.encode("swim").ids


def test_the_longest_text_counts_robertas_two_positions_out(pretrained):
    assert subject.longest_text(load(pretrained).model) == 32
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    roberta = RobertaModel(RobertaConfig(max_position_embeddings=34, **small))
    assert subject.longest_text(roberta) == 32
