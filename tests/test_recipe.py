from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.recipe import KEPT, Recipe, apply_override, scalar
from msiam.towers.tower import TowerOptions

RECIPE = {
    "name": "questions",
    "data": {"table": "pairs.csv", "label": {"column": "is_duplicate", "same": 1}},
    "columns": {"question1": "question", "question2": "question"},
    "towers": {"question": {"encoder": "lstm", "dim": 64, "hidden": 32, "learning_rate": 1e-4}},
    "loss": {"name": "contrastive", "margin": 0.5},
    "train": {"epochs": 2},
}


def changed(**sections) -> dict:
    return {**copy.deepcopy(RECIPE), **sections}


def fault(content) -> str:
    with pytest.raises(RecipeError) as raised:
        Recipe.parse(content, "quora.yaml")
    message = str(raised.value)
    assert message.startswith("quora.yaml: ")
    assert "\n" not in message
    return message


@pytest.fixture
def written(tmp_path):
    """A recipe's file from its text or its data."""

    def write(content) -> Path:
        path = tmp_path / "quora.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


# ---- What is read


def test_every_key_is_read():
    recipe = Recipe.parse(RECIPE)
    assert recipe.name == "questions"
    assert recipe.data.table == "pairs.csv"
    assert recipe.data.label is not None
    assert (recipe.data.label.column, recipe.data.label.same) == ("is_duplicate", 1)
    assert list(recipe.columns) == ["question1", "question2"]
    assert recipe.towers["question"]["hidden"] == 32
    assert recipe.loss[0].name == "contrastive"
    assert recipe.loss[0].options == {"margin": 0.5}
    assert recipe.train.epochs == 2


def test_the_order_of_columns_is_kept():
    columns = {"z": "question", "a": "question", "m": "question"}
    recipe = Recipe.parse(changed(columns=columns))
    assert list(recipe.columns) == ["z", "a", "m"]
    assert list(yaml.safe_load(recipe.to_yaml())["columns"]) == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        ("infonce", ["infonce"]),
        ({"name": "infonce", "weight": 2}, ["infonce"]),
        (["infonce", {"name": "triplet"}], ["infonce", "triplet"]),
    ],
)
def test_a_loss_is_a_name_a_term_or_a_list_of_either(loss, names):
    assert [term.name for term in Recipe.parse(changed(loss=loss)).loss] == names


@pytest.mark.parametrize("name", ["quora", "my pairs", "größe-1.0", "2026.11"])
def test_a_name_is_whatever_a_folder_may_be_called(name):
    assert Recipe.parse(changed(name=name)).name == name


def test_what_is_left_open_gets_a_name():
    labelled, positive = copy.deepcopy(RECIPE), changed(data={"table": "pairs.csv"})
    del labelled["loss"], positive["loss"]
    named = [Recipe.parse(content) for content in (labelled, positive)]
    assert [recipe.loss[0].name for recipe in named] == ["contrastive", "infonce"]
    assert [recipe.evaluate[0].name for recipe in named] == ["verification", "retrieval"]


@pytest.mark.parametrize("same", [1, 0, 1.0, 0.5, True, False, "1", "yes", "same"])
def test_the_value_that_means_same_keeps_its_type(same, written):
    content = changed(data={"table": "t", "label": {"column": "c", "same": same}})
    read = Recipe.read(written(Recipe.parse(content).to_yaml())).data.label
    assert read is not None
    assert read.same == same
    assert type(read.same) is type(same)


def test_written_and_read_again_it_is_the_same(written):
    towers = {"question": {"encoder": "x", "weights": None, "most": math.inf, "sizes": [1, None]}}
    loss = [{"name": "l", "weight": 0.5, "limit": None, "deep": {"a": None}}]
    evaluate = ["retrieval", {"name": "verification", "fars": [0.001, 1e-05]}]
    recipe = Recipe.parse(changed(towers=towers, loss=loss, evaluate=evaluate, name="größe-1.0"))
    assert Recipe.read(written(recipe.to_yaml())) == recipe
    assert "patience" not in recipe.to_yaml()  # what is not asked for is not written


# ---- What is refused


@pytest.mark.parametrize(
    ("content", "key", "nearest"),
    [
        (changed(trian={}), "trian", "train"),
        (changed(data={"tabel": "x"}), "data.tabel", "table"),
        (changed(train={"epoch": 3}), "train.epoch", "epochs"),
        (changed(train={"lerning_rate": 1}), "train.lerning_rate", "learning_rate"),
        (changed(data={"table": "x", "split": {"tests": 0.1}}), "data.split.tests", "test"),
        (
            changed(data={"table": "x", "label": {"colum": "c", "same": 1}}),
            "data.label.colum",
            "column",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(content, key, nearest):
    message = fault(content)
    assert message.startswith(f"quora.yaml: {key}: no such key; did you mean '{nearest}'? Known: ")


def test_the_known_keys_are_those_of_the_place():
    message = fault(changed(data={"table": "x", "label": {"colum": "c", "same": 1}}))
    assert message.endswith("Known: column, same.")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed(data={}), "data.table: is missing, and has no default"),
        ({"data": {"table": "x"}}, "columns: is missing"),
        (
            changed(train={"epochs": "many"}),
            "train.epochs: found 'many'; Input should be a valid n",
        ),
        (changed(train={"epochs": 0}), "train.epochs: found 0; Input should be greater than 0"),
        (changed(train={"schedule": "cosin"}), "found 'cosin'; Input should be 'linear', 'cosine'"),
        (changed(train=None), "train: found None"),
        (changed(columns={}), "columns: found {}; "),
        (changed(columns={False: "question", "b": "question"}), "columns: found the key False; a"),
        (changed(towers={}), "towers: found {}"),
        (changed(towers={"question": "lstm"}), "towers.question: found 'lstm'"),
        (changed(loss={"name": "x", "weight": -1}), "loss.0.weight: found -1"),
        (changed(loss={"margin": 1}), "loss.0.name: is missing"),
        (changed(evaluate=3), "evaluate.0: found 3"),
        (changed(name="../../etc"), "name: found '../../etc'"),
        (changed(name=".."), "name: found '..'"),
        (changed(name=""), "name: found ''"),
        (changed(data={"table": "x", "split": {"test": -1}}), "data.split.test: found -1"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(content, said):
    assert said in fault(content)


@pytest.mark.parametrize("same", [[1], None, {"a": 1}])
def test_a_value_that_means_same_must_be_one_value(same):
    message = fault(changed(data={"table": "x", "label": {"column": "c", "same": same}}))
    assert "data.label.same: found" in message
    assert "must be one value of the column" in message


TWO = {"one": "question", "two": "question"}


@pytest.mark.parametrize(
    ("columns", "data", "said"),
    [
        ({"one": "question"}, {}, "columns: found 'one' alone; one column learns from classes: ad"),
        ({"one": "question"}, {"score": "s"}, "columns: found 'one' alone; "),
        (
            TWO,
            {"label": {"column": "c", "same": 1}, "classes": "k"},
            "data: found label and classes; rows have one of them: leave the other out",
        ),
        (TWO, {"score": "s", "classes": "k"}, "data: found score and classes; "),
        (TWO, {"classes": {"one": "k"}}, "data.classes: says nothing of column 'two'; add 'two: "),
        (TWO, {"draw": {"one": "itself"}}, "data.draw.one: must be a column of the model behind"),
        (TWO, {"draw": {"two": "same"}}, "data.draw.two: found 'same', and there are no classes "),
        (TWO, {"draw": {"two": "alike"}}, "data.draw.two: found 'alike'"),
        (
            TWO | {"three": "question"},
            {"draw": {"three": "other"}, "classes": "k"},
            "data.draw: says nothing of column 'two'; where any are drawn, all but the first, 'one",
        ),
        (
            TWO,
            {"draw": {"two": "itself"}, "score": {"column": "s", "same": 1}},
            "data.draw: found with score, which says what drawing says; leave it out",
        ),
        (TWO, {"split": {"unseen": 0.1}}, "data.split.unseen: found 0.1; it holds whole classes "),
        (TWO, {"split": {"train": 0}}, "data.split.train: found 0; Input should be greater than 0"),
        (TWO, {"classes": {"on": "k"}}, "data.classes.on: no such column of the model; did you me"),
        (
            TWO | {"three": "question"},
            {"negatives": {"easy": "random"}},
            "data.negatives: found with 3 columns; different pairs are made of two columns all of",
        ),
        (
            TWO,
            {"negatives": {"easy": "random"}, "classes": "k"},
            "data.negatives: found with classes; ",
        ),
        (TWO, {"negatives": {"easy": "rnd"}}, "data.negatives.easy: found 'rnd'; "),
        (TWO, {"classes": 3}, "data.classes: found 3; "),
        (TWO, {"split": {"by": "class"}}, "data.split.by: found 'class'; there are none without d"),
        (TWO, {"split": {"by": 3}}, "data.split.by: found 3; "),
        (TWO, {"split": {"test": ["x"]}}, "data.split.test: found a list, which names values of a"),
        (
            TWO,
            {"split": {"by": "class", "validation": ["x"]}, "classes": "k"},
            "data.split.validation: found a list, which names values of a column; say of which",
        ),
        (TWO, {"split": {"validation": 0}}, "data.split.validation: found 0; training watches a h"),
        (TWO, {"split": {"by": "k", "validation": []}}, "data.split.validation: found []; traini"),
        (TWO, {"split": {"test": "all"}}, "data.split.test: found 'all'; must be a share, a numbe"),
        (TWO, {"split": {"test": [None]}}, "data.split.test: found [None]; must be one value of "),
        (TWO, {"score": "s"}, "data.score.same: is missing, and has no default: from which score"),
        (TWO, {"score": {"column": "s", "same": "x"}}, "data.score.same: found 'x'; "),
        (
            TWO | {"three": "question"},
            {"score": {"column": "s", "same": 3}},
            "data.score.same: found 3; of three columns the score is a margin",
        ),
        (
            TWO | {"three": "question", "four": "question"},
            {"score": "s"},
            "data.score: belongs to two columns or three; the recipe has 4",
        ),
    ],
)
def test_what_is_said_of_rows_must_fit_the_columns(columns, data, said):
    message = fault(changed(columns=columns, data={"table": "x", **data}))
    assert message.startswith(f"quora.yaml: {said}")


@pytest.mark.parametrize(
    ("columns", "data", "targets", "defaults"),
    [
        (TWO, {}, set(), ["infonce", "retrieval", "item"]),
        (
            TWO,
            {"label": {"column": "c", "same": 1}},
            {"labels"},
            ["contrastive", "verification", "item"],
        ),
        ({"one": "question"}, {"classes": "k"}, {"classes"}, ["supcon", "retrieval", "class"]),
        (TWO, {"classes": "k"}, {"classes", "labels"}, ["supcon", "retrieval", "class"]),
        (
            TWO | {"three": "question"},
            {"classes": "k"},
            {"classes"},
            ["supcon", "retrieval", "class"],
        ),
        (TWO, {"negatives": {"hard": "bm25"}}, set(), ["infonce", "retrieval", "item"]),
        (
            TWO,
            {"score": {"column": "s", "same": 3}},
            {"scores", "labels"},
            ["cosent", "correlation", "item"],
        ),
        (
            TWO | {"three": "question"},
            {"score": "s"},
            {"scores"},
            ["margin_mse", "correlation", "item"],
        ),
    ],
)
def test_what_is_said_of_rows_decides_targets_and_defaults(
    columns, data, targets, defaults, written
):
    content = changed(columns=columns, data={"table": "x", **data})
    del content["loss"]
    recipe = Recipe.parse(content)
    assert recipe.data.targets == targets
    found = [recipe.loss[0].name, recipe.evaluate[0].name, recipe.data.split.by]
    assert found == defaults
    assert Recipe.read(written(recipe.to_yaml())) == recipe


def test_classes_by_one_name_are_those_of_every_column():
    recipe = Recipe.parse(changed(columns=TWO, data={"table": "x", "classes": "kind"}))
    assert recipe.data.classes == {"one": "kind", "two": "kind"}


def test_classes_may_be_of_several_columns(written):
    recipe = Recipe.parse(changed(columns=TWO, data={"table": "x", "classes": ["a", "b"]}))
    assert recipe.data.classes == {"one": ["a", "b"], "two": ["a", "b"]}
    assert recipe.data.class_columns == {"a", "b"}
    assert Recipe.read(written(recipe.to_yaml())) == recipe
    message = fault(changed(columns=TWO, data={"table": "x", "classes": []}))
    assert "data.classes.one: found no column; give one, or a list of several" in message


@pytest.mark.parametrize("by", ["item", "alphabet"])
def test_classes_may_be_split_by_item_or_by_a_column(by):
    content = changed(data={"table": "x", "classes": "kind", "split": {"by": by}})
    assert Recipe.parse(content).data.split.by == by


def test_the_value_that_means_same_has_no_default():
    message = fault(changed(data={"table": "x", "label": {"column": "c"}}))
    assert "data.label.same: is missing, and has no default" in message


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_what_is_no_mapping_is_no_recipe(content):
    assert "is no recipe; it must be keys and values, with name, data, columns" in fault(content)


def test_no_such_file_names_the_nearest(written):
    path = written(RECIPE)
    with pytest.raises(RecipeError, match=r"quoar.yaml: no such recipe; did you mean 'quora.yaml'"):
        Recipe.read(path.with_name("quoar.yaml"))
    with pytest.raises(RecipeError, match=r"no such recipe; .*such has no .yaml"):
        Recipe.read(path.parent / "no" / "such" / "folder.yaml")


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tx: 1", "a: !!python/object:os.system {}"])
def test_what_is_no_yaml_is_one_line_that_names_the_file(written, text):
    path = written(text)
    with pytest.raises(RecipeError) as raised:
        Recipe.read(path)
    assert str(raised.value).startswith(f"{path}: is no YAML: ")
    assert "\n" not in str(raised.value)


def test_without_a_name_it_is_called_as_its_file(tmp_path):
    path = tmp_path / "pictures.yaml"
    content = changed()
    del content["name"]
    path.write_text(yaml.safe_dump(content))
    assert Recipe.read(path).name == "pictures"
    assert Recipe.read(path, ["name=other"]).name == "other"
    assert Recipe.parse(content).name == "run"


def test_bytes_that_are_no_text_are_no_yaml(tmp_path):
    path = tmp_path / "quora.yaml"
    path.write_bytes(b"\xff\xfe\x00 name")
    with pytest.raises(RecipeError, match="is no YAML"):
        Recipe.read(path)


@pytest.mark.parametrize("text", ["", "- a\n- b", "text"])
def test_overrides_do_not_hide_that_a_file_is_no_recipe(written, text):
    with pytest.raises(RecipeError, match="is no recipe"):
        Recipe.read(written(text), ["train.epochs=3"])


# ---- Overrides


@pytest.mark.parametrize(
    ("override", "section", "found"),
    [
        ("train.epochs=3", "train", {"epochs": 3}),
        ("train.learning_rate=1e-3", "train", {"epochs": 2, "learning_rate": "1e-3"}),
        ("name=other", "name", "other"),
        ("evaluate=[retrieval]", "evaluate", ["retrieval"]),
        ("data.label.same=yes please", "data", None),
        ("loss.margin=", "loss", {"name": "contrastive", "margin": None}),
    ],
)
def test_an_override_sets_one_key(override, section, found):
    content = copy.deepcopy(RECIPE)
    apply_override(content, override)
    if found is not None:
        assert content[section] == found
    others = {key: value for key, value in content.items() if key != section}
    assert others == {key: value for key, value in RECIPE.items() if key != section}


def test_overrides_reach_through_to_the_recipe(written):
    overrides = ["train.learning_rate=1e-3", "train.epochs=7", "data.split.test=0.2"]
    recipe = Recipe.read(written(RECIPE), overrides)
    assert (recipe.train.learning_rate, recipe.train.epochs) == (0.001, 7)
    assert recipe.data.split.test == 0.2


def test_an_override_makes_the_sections_it_needs():
    content = {"data": {"table": "x"}}
    apply_override(content, "train.epochs=3")
    assert content["train"] == {"epochs": 3}


def test_an_override_reaches_into_lists():
    content = {"loss": [{"name": "a"}, {"name": "b"}], "evaluate": ["retrieval"]}
    apply_override(content, "loss.1.weight=2")
    apply_override(content, "evaluate.0=verification")
    assert content == {
        "loss": [{"name": "a"}, {"name": "b", "weight": 2}],
        "evaluate": ["verification"],
    }


def test_an_only_loss_takes_keys_by_its_name_alone_or_in_a_list():
    content = {"loss": "triplet", "train": {"sampler": "classes"}}
    apply_override(content, "loss.miner=semi_hard")
    apply_override(content, "train.sampler.per_class=8")
    assert content["loss"] == {"name": "triplet", "miner": "semi_hard"}
    assert content["train"] == {"sampler": {"name": "classes", "per_class": 8}}
    content = {"loss": [{"name": "triplet"}]}  # as a run's recipe has it
    apply_override(content, "loss.margin=2")
    assert content == {"loss": [{"name": "triplet", "margin": 2}]}


def test_another_encoder_drops_the_options_of_the_old_one():
    content = copy.deepcopy(RECIPE)
    apply_override(content, "towers.question.encoder=transformer")
    assert content["towers"]["question"] == {"encoder": "transformer", "dim": 64}


def test_the_same_encoder_keeps_its_options():
    content = copy.deepcopy(RECIPE)
    apply_override(content, "towers.question.encoder=lstm")
    assert content == RECIPE


def test_what_a_swapped_tower_keeps_are_its_own_keys():
    assert set(TowerOptions.model_fields) - {"learning_rate", "init", "freeze"} == KEPT


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("name.first=3", "'first' leads nowhere"),
        ("train.epochs.many.more=3", "'many' leads nowhere"),
        ("loss.1.weight=2", "'1' must be a number below 1, of a list"),
        ("loss.first=2", "'first' must be a number below 1, of a list"),
        ("loss.-1.weight=2", "'-1' must be a number below 1"),
    ],
)
def test_an_override_that_leads_nowhere(override, said):
    with pytest.raises(RecipeError) as raised:
        apply_override({**copy.deepcopy(RECIPE), "loss": ["infonce"]}, override)
    assert str(raised.value).startswith(f"--set {override}: ")
    assert said in str(raised.value)


def test_an_unknown_key_of_an_override_is_found_like_any_other(written):
    with pytest.raises(RecipeError, match=r"quora.yaml: train.epoch: no such key; .* 'epochs'"):
        Recipe.read(written(RECIPE), ["train.epoch=3"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("a word", "a word"),
        ("[1, b]", [1, "b"]),
        ("", None),
    ],
)
def test_a_scalar_is_read_as_yaml(text, value):
    assert scalar(text) == value


@given(st.text())
def test_any_text_is_some_value(text):
    scalar(text)


@pytest.mark.parametrize(
    ("others", "loss"), [(1, "infonce"), (2, "triplet"), (3, "quadruplet"), (4, "tuple")]
)
def test_drawn_columns_need_no_class_of_their_own_and_have_a_loss(others, loss):
    drawn = ["same", *["other"] * (others - 1)]
    draw = {f"column {n}": how for n, how in enumerate(drawn)}
    recipe = Recipe.parse(
        {
            "data": {"table": "t", "classes": "kind", "draw": draw},
            "columns": dict.fromkeys(["first", *draw], "question"),
            "towers": RECIPE["towers"],
        }
    )
    assert recipe.data.classes == {"first": "kind"}
    assert recipe.data.targets == set()
    assert recipe.loss[0].name == loss and recipe.evaluate[0].name == "retrieval"
