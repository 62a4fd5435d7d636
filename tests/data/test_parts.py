"""Three tables as three parts that share no item, and what tells that they have changed."""

from __future__ import annotations

import pytest

from msiam import Model, errors
from msiam.data.parts import prepare, training_parts
from msiam.data.parts import test_part as read_test_part
from msiam.recipe import Data
from msiam.recipe_data import Split

TEXT = {"encoder": "lstm", "dim": 4, "hidden": 4, "min_count": 1}


def model():
    made = Model({"text": TEXT}, {"a": "text", "b": "text"})
    made.tower("text").fit(["some words"])
    return made


def rows(name, numbers):
    return [{"a": f"{name} {n}", "b": f"{name} {n} too"} for n in numbers]


def write(path, table):
    path.write_text("a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in table))
    return str(path)


def items_of(parts, part):
    examples, values = parts.examples[part], parts.items["text"].values
    return {values[n] for numbers in examples.columns.values() for n in numbers}


def test_what_the_labels_say_is_told(tmp_path):
    table = tmp_path / "pairs.csv"
    lines = [f"x {n},y {n},{'yes' if n % 4 else 'no'}" for n in range(40)]
    table.write_text("\n".join(["a,b,label", *lines]))
    said = Data(table=str(table), label={"column": "label", "same": "yes"})
    notes = training_parts(said, model(), 0).notes
    assert "Column 'label' of pairs.csv: 30 pairs are the same (yes), 10 are not." in notes


@pytest.fixture
def data(tmp_path):
    """Five rows of the table and five of ``more`` stand in the held-out table too."""
    return Data(
        table=write(tmp_path / "table.csv", rows("x", range(40)) + rows("test", range(5))),
        more=write(tmp_path / "more.csv", rows("x", range(40)) + rows("test", range(5, 10))),
        test=write(tmp_path / "test.csv", rows("test", range(10))),
        split={"validation": 8},
    )


def test_no_part_has_an_item_of_another(data):
    parts = training_parts(data, model(), seed=0)
    train, validation, test = (items_of(parts, p) for p in ("train", "validation", "test"))
    assert not train & validation and not train & test and not validation & test
    assert [len(parts.examples[p]) for p in ("validation", "test")] == [8, 10]
    # 40 of the table's 45 rows do not leak; of these, 32 train, and stand once more in ``more``.
    assert len(parts.examples["train"]) == 32 + 32
    notes = " ".join(parts.notes)
    assert "5 training rows of table.csv were left out: they share items with test." in notes
    assert "8 training rows of more.csv were left out: they share items with validation." in notes
    assert "5 training rows of more.csv were left out: they share items with test." in notes


def test_rows_from_python_stand_in_for_the_tables(data):
    parts = training_parts(data, model(), 0, rows("y", range(20)), rows("z", range(3)))
    assert items_of(parts, "test") == {f"z {n}" for n in range(3)} | {
        f"z {n} too" for n in range(3)
    }


def test_without_a_test_part_validation_is_what_is_held_out(tmp_path):
    table = write(tmp_path / "t.csv", rows("x", range(20)))
    parts = training_parts(Data(table=table, split={"test": 0}), model(), 0)
    assert "test" not in parts.examples and parts.held_out == "validation"


def test_a_test_table_that_cannot_be_read_is_never_replaced_by_validation(data, tmp_path):
    test = [{"a": "!", "b": None}] * 3
    parts = training_parts(data, model(), 0, rows("x", range(1000)), test)
    with pytest.raises(
        errors.DataError, match=r"the given list \(test\): 3 of 3 rows cannot be re"
    ):
        prepare(parts, model(), tmp_path / "rejected.csv", allow=False)
    parts = training_parts(data, model(), 0, rows("x", range(1000)), test)
    with pytest.raises(errors.DataError, match="test: none of its rows can be read"):
        prepare(parts, model(), tmp_path / "rejected.csv", allow=True)


def test_rows_that_cannot_be_read_are_counted_list_by_list(tmp_path):
    """One in a hundred of the table's, which would be half as many as the test has."""
    made = model()
    table = [{"a": "!", "b": None}] * 10 + rows("x", range(990))
    parts = training_parts(Data(table="given"), made, 0, table, rows("z", range(20)))
    prepare(parts, made, tmp_path / "rejected.csv", allow=False)
    assert parts.rows == {"the given list (table)": 1000, "the given list (test)": 20}
    assert {entry.table for entry in parts.rejected} == {"the given list (table)"}
    assert len({entry.row for entry in parts.rejected}) == 10


def test_the_digest_changes_with_a_row_an_item_and_a_seed(data):
    def digest(more=(), seed=0, words="x"):
        return training_parts(data, model(), seed, rows(words, range(30)) + list(more)).digest()

    found = [digest(), digest(rows("y", [1])), digest(seed=1), digest(words="y")]
    assert len(set(found)) == 4
    assert digest() == found[0]


def kinds(classes, items=4):
    """One column with so many items of each class."""
    return [{"a": f"thing {c} {n}", "kind": f"kind {c}"} for c in classes for n in range(items)]


def one_column(by=None, **tables):
    data = Data(table="-", classes={"a": "kind"}, split={"by": by}, **tables)
    made = Model({"text": TEXT}, {"a": "text"})
    return data, made


def test_classes_are_the_groups_in_every_part(tmp_path):
    data, made = one_column()
    parts = training_parts(data, made, 0, kinds(range(10)))
    assert parts.classes == [f"kind {c}" for c in range(10)]
    for examples in parts.examples.values():
        assert examples.classed
        for number, group in zip(examples.columns["a"], examples.groups["a"], strict=True):
            kind = parts.classes[group].removeprefix("kind ")
            assert parts.items["text"].values[number].startswith(f"thing {kind} ")
    assert len(parts.examples["test"].distinct_groups()) == 2
    assert "Split by whole classes" in parts.notes[0]


def test_a_held_out_table_takes_its_classes_out_of_training(tmp_path):
    data, made = one_column(more=write_kinds(tmp_path / "more.csv", kinds([8, 20])))
    parts = training_parts(data, made, 0, kinds(range(10)), kinds([8, 9, 30], items=2))
    assert {parts.classes[g] for g in parts.examples["test"].distinct_groups()} == {
        "kind 8",
        "kind 9",
        "kind 30",
    }
    train = {parts.classes[g] for g in parts.examples["train"].distinct_groups()}
    assert "kind 20" in train and not train & {"kind 8", "kind 9"}
    notes = " ".join(parts.notes)
    assert (
        "8 training rows of the given list (table) were left out: they share classes with" in notes
    )
    assert "4 training rows of more.csv were left out: they share classes with test" in notes


def test_a_held_out_table_of_the_same_classes_asks_for_a_split_by_item():
    data, made = one_column()
    others = [{"a": f"other {n}", "kind": f"kind {n % 4}"} for n in range(20)]
    with pytest.raises(
        errors.DataError, match=r"with different classes, or set data\.split\.by: i"
    ):
        training_parts(data, made, 0, kinds(range(4)), others)
    data, made = one_column(by="item")
    parts = training_parts(data, made, 0, kinds(range(4), items=10), others)
    assert len(parts.examples["test"]) == 20
    assert len(parts.examples["train"].distinct_groups()) == 4


def test_a_held_out_table_of_one_class_is_refused_before_training():
    data, made = one_column()
    with pytest.raises(errors.DataError, match="test: would have rows of one class alone"):
        training_parts(data, made, 0, kinds(range(9)), kinds([20]))


def test_the_digest_changes_with_a_class_and_a_score():
    data, made = one_column(by="item")
    table = kinds(range(3), items=30)
    other = [*table[:-1], table[-1] | {"kind": "kind 0"}]
    assert other != table
    found = {training_parts(data, made, 0, rows).digest() for rows in (table, table, other)}
    assert len(found) == 2
    data = Data(table="-", score={"column": "s", "same": 3})
    table = [row | {"s": n % 5} for n, row in enumerate(rows("x", range(30)))]
    other = [*table[:-1], table[-1] | {"s": 4.5}]
    found = {training_parts(data, model(), 0, rows).digest() for rows in (table, table, other)}
    assert len(found) == 2


def test_scores_stay_with_their_rows_and_say_what_is_the_same():
    data = Data(table="-", score={"column": "s", "same": 3})
    table = [row | {"s": n % 5} for n, row in enumerate(rows("x", range(30)))]
    for examples in training_parts(data, model(), 0, table).examples.values():
        assert examples.scores.tolist() == [row % 5 for row in examples.rows]
        assert examples.same.tolist() == [row % 5 >= 3 for row in examples.rows]
        together = examples.groups["a"] == examples.groups["b"]
        assert together.tolist() == examples.same.tolist()


def write_kinds(path, table):
    path.write_text("a,kind\n" + "".join(f"{row['a']},{row['kind']}\n" for row in table))
    return str(path)


def test_a_tower_that_follows_shares_its_leaders_items(tmp_path):
    """So that an item which both of them read is one item: prepared once, and no false negative."""
    made = Model({"fast": TEXT, "slow": {"follows": "fast"}}, {"a": "fast", "b": "slow"})
    table = [{"a": f"word {n}", "b": f"word {n - n % 3}"} for n in range(60)]
    parts = training_parts(Data(table="given"), made, seed=0, source=table)
    assert parts.items["slow"] is parts.items["fast"]
    values = parts.items["fast"].values
    assert sorted(values) == sorted(row["a"] for row in table)
    train = parts.examples["train"]
    assert len(train) == 48  # three rows to an item of b, and no such three on two sides
    thirds = [int(values[n].split()[1]) // 3 for n in train.columns["a"]]
    group_of = dict(zip(thirds, train.groups["a"].tolist(), strict=True))
    assert [group_of[third] for third in thirds] == train.groups["b"].tolist()
    assert len(set(group_of.values())) == 16

    for name in ("fast", "slow"):
        made.tower(name).fit(values)
    told = []
    prepare(parts, made, tmp_path / "rejected.csv", allow=True, progress=told.append)
    assert sum(told) == 60


def more_kinds(path, classes):
    """A table of further items of these classes."""
    return write_kinds(path, [row | {"a": f"more {row['a']}"} for row in kinds(classes)])


def test_more_has_no_class_of_the_unseen_part(tmp_path):
    """By item it may have those of the other parts, whose classes are seen in training anyway."""
    data, made = one_column(more=more_kinds(tmp_path / "more.csv", range(10)))
    split = Split(by="item", validation=10, test=10, unseen=8)
    parts = training_parts(data.model_copy(update={"split": split}), made, 0, kinds(range(10)))
    classes = {part: set(found.distinct_classes()) for part, found in parts.examples.items()}
    assert len(classes["unseen"]) == 2 and not classes["unseen"] & classes["train"]
    assert len(parts.examples["train"]) == (40 - 10 - 10 - 8) + (40 - 8)
    said = "8 training rows of more.csv were left out: they share classes with unseen."
    assert said in parts.notes


def test_more_need_not_have_the_column_that_an_evaluator_reads(tmp_path):
    data, made = one_column(more=more_kinds(tmp_path / "more.csv", [20, 21]))
    data = data.model_copy(update={"split": Split(by="item", validation=12, test=12)})
    table = [row | {"hand": n % 3} for n, row in enumerate(kinds(range(10)))]
    parts = training_parts(data, made, 0, table, reads=["hand"])
    assert len(parts.examples["train"]) == 16 + 8
    test = parts.examples["test"]
    assert [table[row]["hand"] for row in test.rows] == test.attributes["hand"].tolist()
    data = data.model_copy(update={"split": Split(by="hand", validation=1, test=1)})
    with pytest.raises(errors.DataError, match=r"more\.csv: no column 'hand'"):
        training_parts(data, made, 0, table)


def test_a_label_says_which_items_are_of_their_class():
    rows = [
        {"word": f"{name}{n}", "kind": name, "real": n < 3} for name in "abcd" for n in range(5)
    ]
    data = Data(
        table="given",
        classes={"word": "kind"},
        label={"column": "real", "same": True},
        split={"validation": 5, "test": 5},
    )
    parts = training_parts(data, Model({"text": TEXT}, {"word": "text"}), 0, rows)
    for examples in parts.examples.values():
        real = examples.groups["word"] == examples.claims
        assert real.tolist() == [rows[row]["real"] for row in examples.rows]
        assert len(set(examples.groups["word"][~real].tolist())) == (~real).sum()
        assert [parts.classes[n] for n in examples.claims] == [
            rows[row]["kind"] for row in examples.rows
        ]


def test_a_split_by_a_column_counts_its_values_and_reads_what_evaluators_need():
    data = Data(
        table="-",
        classes={"a": ["place", "kind"]},
        split={"by": "place", "validation": 1, "test": 2},
    )
    table = [
        row | {"place": f"place {p}", "a": f"{row['a']} of {p}", "hand": n % 3, "more": 0}
        for p in range(8)
        for n, row in enumerate(kinds(range(3)))
    ]
    made = Model({"text": TEXT}, {"a": "text"})
    parts = training_parts(data, made, 0, table, reads=["hand"])
    counts = {k: len(set(rows.attributes["place"].tolist())) for k, rows in parts.examples.items()}
    assert counts == {"validation": 1, "test": 2, "train": 5}
    assert len(parts.classes) == 24 and parts.classes[0] == "place 0 / kind 0"
    for rows_ in parts.examples.values():
        assert [table[row]["hand"] for row in rows_.rows] == rows_.attributes["hand"].tolist()
    assert "Columns that are not used: more." in parts.notes
    with pytest.raises(errors.DataError, match="palce"):
        training_parts(data.model_copy(update={"split": Split(by="palce")}), made, 0, table)


def test_a_split_holds_out_the_values_that_it_names():
    split = {"by": "kind", "validation": 2, "test": ["kind 5", "kind 2"]}
    data = Data(table="-", classes={"a": "kind"}, split=split)
    made = Model({"text": TEXT}, {"a": "text"})
    table = kinds(range(6))
    parts = training_parts(data, made, 0, table)
    held_out = {table[row]["kind"] for row in parts.examples["test"].rows}
    assert held_out == {"kind 2", "kind 5"}
    assert len(parts.examples["test"]) == len(table) / 3
    wrong = Split(by="kind", validation=["kind 1", "kind 55"])
    with pytest.raises(errors.DataError, match=r"split\.validation: found 'kind 55', which is no"):
        training_parts(data.model_copy(update={"split": wrong}), made, 0, table)


def test_a_split_by_a_column_needs_a_row_that_can_be_read():
    data, made = one_column()
    data = data.model_copy(update={"split": Split(by="kind", validation=1, test=2)})
    table = [row | {"a": " "} for row in kinds(range(6))]
    with pytest.raises(errors.DataError, match=r"data\.table: none of its rows can be read"):
        training_parts(data, made, 0, table)


def test_another_table_is_read_for_what_evaluators_need():
    data, made = one_column()
    table = [row | {"hand": "left"} for row in kinds(range(3))]
    part = read_test_part(data, made, table, ["hand"]).examples["test"]
    assert part.attributes["hand"].tolist() == [0] * 12


def test_an_item_of_two_classes_is_dealt_out_with_the_others_and_then_set_aside(tmp_path):
    data, made = one_column()
    data = data.model_copy(update={"split": Split(by="item", validation=10, test=10)})
    table = [{"a": f"{n} {n}", "kind": f"kind {n % 5}"} for n in range(99)]
    table.append({"a": table[7]["a"], "kind": "kind 3"})
    made.tower("text").fit(["some words"])
    parts = training_parts(data, made, 0, table)
    held_out = {part: len(rows) for part, rows in parts.examples.items()}
    assert held_out == {"validation": 10, "test": 10, "train": 80}
    prepare(parts, made, tmp_path / "rejected.csv", allow=False)
    assert sum(map(len, parts.examples.values())) == 98
    assert sorted(entry.row for entry in parts.rejected) == [7, 99]
    assert "of two classes: 'kind 2' in" in (tmp_path / "rejected.csv").read_text()
