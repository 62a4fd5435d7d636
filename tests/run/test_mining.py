"""Mining with a run: what is mined, what never is, and that the result trains again."""

from __future__ import annotations

import csv
import json
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

import msiam
from msiam import errors
from msiam.data.parts import training_parts
from msiam.progress import QUIET
from msiam.run.mined import names_of
from msiam.run.mining import mine_run

COLOURS = ("red", "green", "blue", "orange", "purple", "black")
SHAPES = ("circle", "square", "bar")
PLACES = {"left": 2, "middle": 10, "right": 18}
KINDS = [(c, s, p) for c in COLOURS for s in SHAPES for p in PLACES]
FOODS = ("rice", "bread", "soup", "pizza", "fish", "tofu", "lentils", "pasta", "eggs", "beans")
VERBS = ("cook", "freeze", "season", "buy", "store", "slice")
TEXT = {"encoder": "lstm", "dim": 16, "hidden": 16, "min_count": 1}
PICTURE = {"encoder": "small_cnn", "dim": 16, "size": 32}


def draw(path, colour, shape, place):
    picture = Image.new("RGB", (32, 32), "white")
    pen, x = ImageDraw.Draw(picture), PLACES[place]
    box = (x, 8, x + 12, 20)
    {"circle": pen.ellipse, "square": pen.rectangle}.get(shape, pen.rectangle)(
        (x, 14, x + 12, 17) if shape == "bar" else box, fill=colour
    )
    picture.save(path)


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two tables: questions that are labelled, and names with pictures beside them."""
    folder = tmp_path_factory.mktemp("mining")
    asked = [f"{verb} {food}" for verb in VERBS for food in FOODS]
    rows = [{"a": f"how to {one}", "b": f"the way to {one}", "dup": "1"} for one in asked]
    rows += [
        {"a": f"how to {one}", "b": f"who would {other}", "dup": "0"}
        for one, other in zip(asked, asked[7:] + asked[:7], strict=True)
    ]
    write(folder / "questions.csv", rows)
    (folder / "pictures").mkdir()
    for number, kind in enumerate(KINDS):
        draw(folder / "pictures" / f"{number}.png", *kind)
    write(
        folder / "things.csv",
        [
            {"name": f"a {c} {s} on the {p}", "picture": f"pictures/{number}.png"}
            for number, (c, s, p) in enumerate(KINDS)
        ],
    )
    return folder


@pytest.fixture(scope="module")
def questions(place):
    """One tower, labelled pairs that do not hang together as a whole."""
    recipe = {
        "data": {
            "table": str(place / "questions.csv"),
            "label": {"column": "dup", "same": 1},
            "split": {"validation": 10, "test": 10},
        },
        "columns": {"a": "text", "b": "text"},
        "towers": {"text": TEXT},
        "train": {"max_steps": 5, "batch_size": 16},
    }
    return msiam.train(recipe, folder=place / "runs" / "questions")


@pytest.fixture(scope="module")
def things(place):
    """Two towers."""
    recipe = {
        "data": {"table": str(place / "things.csv")},
        "columns": {"name": "text", "picture": "image"},
        "towers": {"text": TEXT, "image": PICTURE},
        "train": {"max_steps": 5, "batch_size": 16},
    }
    return msiam.train(recipe, folder=place / "runs" / "things")


def part(run, name="train"):
    """The rows of a part of a run's own table, as raw items."""
    parts = training_parts(run.recipe.data, run.model, run.recipe.train.seed)
    examples = parts.examples[name]
    columns = [
        [parts.items[run.model.columns[c]].values[n] for n in numbers]
        for c, numbers in examples.columns.items()
    ]
    rows = list(zip(*columns, strict=True))
    return (
        [r for r, same in zip(rows, examples.same, strict=True) if same]
        if (examples.same is not None)
        else rows
    )


def by_hand(run, pairs, answers, k):
    """For each pair its k nearest answers that no positive pair ties to the anchor."""
    one, other = run.model.columns
    left = run.encode({one: [a for a, _ in pairs]})[one]
    right = run.encode({other: answers})[other]
    own = {(a, b) for a, b in pairs}
    wanted = []
    for row, (a, b) in enumerate(pairs):
        order = np.argsort(-(right @ left[row]), kind="stable")
        free = [answers[n] for n in order if (a, answers[n]) not in own and answers[n] != a]
        wanted.append((a, b, free[:k]))
    return wanted


def triplets(dataset):
    return [tuple(row.values()) for row in dataset.to_list()]


def write_mined(run, table, out, allow=False, wide=False, **rules):
    return mine_run(run, table, None, None, None, wide, out, allow, QUIET, rules)


def test_the_own_training_part_alone_is_mined_and_by_default(things):
    found = triplets(msiam.mine(things, negatives=3))
    pairs = part(things)
    assert {(a, p) for a, p, _ in found} == set(pairs) and len(found) == 3 * len(pairs)
    held_out = {p for name in ("validation", "test") for _, p in part(things, name)}
    assert held_out and not held_out & {n for _, _, n in found}
    answers = [p for _, p in pairs]
    wanted = [
        (a, p, n) for a, p, negatives in by_hand(things, pairs, answers, 3) for n in negatives
    ]
    scores = scores_of(things, found), scores_of(things, wanted)
    np.testing.assert_allclose(*scores, atol=1e-6)
    assert sum(a == b for a, b in zip(found, wanted, strict=True)) > 0.95 * len(wanted)  # ties


def scores_of(run, rows):
    one, other = run.model.columns
    left = run.encode({one: [row[0] for row in rows]})[one]
    right = run.encode({other: [row[2] for row in rows]})[other]
    return np.einsum("nd,nd->n", left, right)


def test_a_table_that_is_given_is_mined_as_a_whole(things, place):
    found = msiam.mine(things, place / "things.csv", negatives=2)
    assert found.column_names == ["name", "picture", "negative"]
    assert {row["name"] for row in found.to_list()} == {
        f"a {c} {s} on the {p}" for c, s, p in KINDS
    }


def test_labelled_pairs_only_those_that_are_the_same_are_positives(questions, place):
    found = msiam.mine(questions, place / "questions.csv", negatives=4).to_list()
    assert len(found) == 60 * 4
    for row in found:
        assert row["a"].removeprefix("how to ") == row["b"].removeprefix("the way to ")
        assert row["negative"] != row["b"]
    # More than there are of the others: what differs from an anchor is a candidate as well.
    found = msiam.mine(questions, place / "questions.csv", negatives=70).to_list()
    assert any(row["negative"].startswith("who would") for row in found)


def test_a_table_without_the_label_holds_positives(questions):
    rows = [{"a": f"how to {v} tea", "b": f"the way to {v} tea"} for v in VERBS]
    found = msiam.mine(questions, rows, negatives=2).to_list()
    assert len(found) == 12 and all(row["negative"] != row["b"] for row in found)


def test_what_other_rows_tie_to_an_anchor_is_never_its_negative(questions):
    """x1 – y1 – x2 – y2: y2 belongs to x1 as well; and an item equal to the anchor is none."""
    rows = [
        {"a": "how to cook rice", "b": "cook rice"},
        {"a": "rice, cook it", "b": "cook rice"},
        {"a": "rice, cook it", "b": "rice in a pot"},
        {"a": "buy fish", "b": "where is fish sold"},
        {"a": "store fish", "b": "buy fish"},
    ]
    found = msiam.mine(questions, rows, negatives=5).to_list()
    rice = {row["negative"] for row in found if "rice" in row["a"]}
    assert rice == {"where is fish sold", "buy fish"}
    (bought,) = [{r["negative"] for r in found if r["a"] == "buy fish"}]
    assert bought == {"cook rice", "rice in a pot"}  # store fish – buy fish – where is fish sold


def test_the_direction_may_be_turned(things, place):
    found = msiam.mine(things, place / "things.csv", anchor="picture", negatives=2)
    assert found.column_names == ["picture", "name", "negative"]
    assert all(row["negative"].startswith("a ") for row in found.to_list())


def test_bounds_hold_for_every_triplet(things, place):
    table = place / "things.csv"
    every = scores_of(things, triplets(msiam.mine(things, table, negatives=53)))
    margin, most = float(every.std() / 4), float(np.quantile(every, 0.7))
    found = triplets(msiam.mine(things, table, negatives=53, margin=margin, max_score=most))
    assert 0 < len(found) < 0.7 * len(every)
    negative = scores_of(things, found)
    positive = scores_of(things, [(a, None, p) for a, p, _ in found])
    assert (negative <= most + 1e-6).all() and (negative <= positive - margin + 1e-6).all()


def twins(place, folder):
    """Things, of which every fourth is there again: a copied picture, called something else."""
    shutil.copytree(place / "pictures", folder / "pictures")
    with (place / "things.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number in range(0, len(rows), 4):
        shutil.copy(folder / f"pictures/{number}.png", folder / f"pictures/copy{number}.png")
        rows.append({"name": f"a twin {number}", "picture": f"pictures/copy{number}.png"})
        rows.append({"name": rows[number]["name"], "picture": rows[number + 1]["picture"]})
    return write(folder / "twins.csv", rows), rows


@pytest.mark.parametrize("of", ["table", "gallery"])
def test_pictures_that_are_the_same_bytes_are_one_item(things, place, tmp_path, of):
    """What is known of one of them is known of the other."""
    table, rows = twins(place, tmp_path)
    gallery = None
    if of == "gallery":
        gallery = msiam.Gallery.build(things.model, table, "picture", tmp_path / "g").folder
    found = msiam.mine(things, table, gallery=gallery, negatives=90)

    def content(name):
        return (tmp_path / name).read_bytes()

    nodes = components([(row["name"], content(row["picture"])) for row in rows])
    for row in found.to_list():
        assert nodes[row["name"]] == nodes[content(row["picture"])]
        assert nodes[row["name"]] != nodes[content(row["negative"])]
    assert len({content(row["negative"]) for row in found.to_list()}) == len(KINDS)


def components(pairs):
    """Each node's component, by hand: pairs are merged until none joins two."""
    found = {node: {node} for pair in pairs for node in pair}
    for one, other in pairs:
        merged = found[one] | found[other]
        found |= dict.fromkeys(merged, merged)
    return {node: frozenset(map(repr, part)) for node, part in found.items()}


def test_wide_rows_have_all_their_negatives(questions, place):
    rows = [{"a": f"how to {v} tea", "b": f"the way to {v} tea"} for v in VERBS]
    found = msiam.mine(questions, rows, negatives=3, wide=True)
    assert found.column_names == ["a", "b", "negative_1", "negative_2", "negative_3"]
    assert len(found) == 6
    for row in found.to_list():
        assert len(set(row.values())) == 5
    with pytest.raises(errors.DataError, match="no pair of 6 gets its negatives from 6 candidates"):
        msiam.mine(questions, rows, negatives=6, wide=True)


def test_a_gallery_of_the_same_items_gives_the_same(things, place, tmp_path):
    msiam.Gallery.build(things.model, place / "things.csv", "picture", tmp_path / "g")
    table = place / "things.csv"
    assert triplets(msiam.mine(things, table, gallery=tmp_path / "g")) == triplets(
        msiam.mine(things, table)
    )


def test_what_the_run_held_out_is_not_taken_from_a_gallery_either(things, place, tmp_path):
    msiam.Gallery.build(things.model, place / "things.csv", "picture", tmp_path / "g")
    own = msiam.mine(things, gallery=tmp_path / "g", negatives=40)
    held_out = {p for name in ("validation", "test") for _, p in part(things, name)}
    assert not held_out & set(own["negative"])
    assert triplets(own) == triplets(msiam.mine(things, negatives=40))


def test_a_gallery_that_does_not_fit_is_refused(things, place, tmp_path):
    msiam.Gallery.build(things.model, place / "things.csv", "name", tmp_path / "g")
    with pytest.raises(errors.GalleryError, match="holds 'name', and negatives for column 'pict"):
        msiam.mine(things, gallery=tmp_path / "g")


def test_bytes_stay_bytes_and_only_parquet_takes_them(things, place, tmp_path):
    rows = [
        {"name": f"thing {number}", "picture": {"bytes": path.read_bytes(), "path": None}}
        for number, path in enumerate(sorted((place / "pictures").iterdir())[:6])
    ]
    table = datasets.Dataset.from_list(rows).cast_column("picture", datasets.Image())
    found = msiam.mine(things, table, negatives=2)
    contents = {row["picture"]["bytes"] for row in rows}
    for row in found.with_format(None).cast_column("negative", datasets.Image(decode=False)):
        assert row["negative"]["bytes"] in contents
    out = tmp_path / "t.parquet"
    write_mined(things, table, out, negatives=2)
    opened = msiam.open_table(out)
    assert opened.dataset[0]["picture"]["bytes"] == rows[0]["picture"]["bytes"]
    assert isinstance(opened.dataset.features["negative"], datasets.Image)
    for suffix in ("csv", "jsonl"):
        with pytest.raises(errors.RecipeError, match="'picture' holds bytes, which only"):
            write_mined(things, table, tmp_path / f"t.{suffix}")  # fmt: skip
    assert not (tmp_path / "t.csv").exists()
    assert not list(tmp_path.glob("*-rejected.csv"))


def test_rows_that_cannot_be_read_are_listed_and_left_out(things, place, tmp_path):
    shutil.copytree(place / "pictures", tmp_path / "pictures")
    (tmp_path / "pictures" / "3.png").write_bytes(b"no picture")
    (tmp_path / "pictures" / "4.png").unlink()
    with (place / "things.csv").open() as file:
        rows = [*csv.DictReader(file), {"name": "", "picture": "pictures/5.png"}]
    table, out = write(tmp_path / "t.csv", rows), tmp_path / "out.jsonl"

    def run(allow):
        return write_mined(things, table, out, allow)

    with pytest.raises(errors.DataError, match="3 of 55 rows cannot be read"):
        run(False)
    assert not out.exists()
    summary = run(True).summary
    assert summary["rejected"] == 3 and summary["pairs"] == 52
    with (tmp_path / "out-rejected.csv").open() as file:
        assert sorted(int(row["row"]) for row in csv.DictReader(file)) == [3, 4, 54]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    used = {row[c] for row in found for c in ("picture", "negative")}
    assert not {"pictures/3.png", "pictures/4.png"} & used and "pictures/6.png" in used


def test_of_one_column_with_classes(place, tmp_path):
    rows = [
        {"picture": str(place / "pictures" / f"{number}.png"), "colour": colour}
        for number, (colour, *_) in enumerate(KINDS)
    ]
    recipe = {
        "data": {
            "table": str(write(tmp_path / "c.csv", rows)),
            "classes": {"picture": "colour"},
            "split": {"validation": 0.2, "test": 0.2, "by": "item"},
        },
        "columns": {"picture": "image"},
        "towers": {"image": PICTURE},
        "loss": "supcon",
        "train": {"max_steps": 2, "batch_size": 16},
    }
    run = msiam.train(recipe, folder=tmp_path / "run")
    found = msiam.mine(run, tmp_path / "c.csv", negatives=2)
    assert found.column_names == ["picture", "positive", "negative"]
    colour = {row["picture"]: row["colour"] for row in rows}
    assert len(found) == 2 * len(KINDS)
    for row in found.to_list():
        assert colour[row["picture"]] == colour[row["positive"]] != colour[row["negative"]]
        assert row["picture"] != row["positive"]


def test_of_drawn_columns_the_first_alone_is_mined(place, tmp_path):
    """The table has no other; its items belong together by their classes."""
    rows = [{"a": f"{verb} {food}", "food": food} for verb in VERBS for food in FOODS]
    table = write(tmp_path / "foods.csv", rows)
    recipe = {
        "data": {
            "table": str(table),
            "classes": {"a": "food"},
            "draw": {"positive": "same", "negative": "other"},
            "split": {"validation": 0.2, "test": 0.2, "by": "item"},
        },
        "columns": {"a": "text", "positive": "text", "negative": "text"},
        "towers": {"text": TEXT},
        "train": {"max_steps": 2, "batch_size": 16},
    }
    run = msiam.train(recipe, folder=tmp_path / "run")
    for found, whole in ((msiam.mine(run, negatives=2), False), (msiam.mine(run, table), True)):
        assert found.column_names == ["a", "positive", "negative"]
        for row in triplets(found):
            anchor, positive, negative = (text.split()[1] for text in row)
            assert anchor == positive != negative and row[0] != row[1]
        assert (len(set(found["a"])) == len(rows)) == whole
    with pytest.raises(errors.RecipeError, match="the table has no column 'positive'"):
        msiam.mine(run, positive="positive")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"anchor": "nam"}, errors.RecipeError, "no column 'nam'; did you mean 'name'"),
        ({"anchor": "name", "positive": "name"}, errors.RecipeError, "found 'name' twice"),
        ({"negative": 3}, errors.RecipeError, "negative: no such key; did you mean 'negatives'"),
        ({"table": [{"name": "x"}]}, errors.DataError, "no column 'picture'"),
        ({"max_score": -2}, errors.DataError, "gets its negatives from .*max_score"),
    ],
)
def test_what_cannot_be_is_said(things, arguments, kind, message):
    with pytest.raises(kind, match=message):
        msiam.mine(things, **arguments)


def test_a_model_alone_and_tables_that_changed_are_refused(things, place, tmp_path):
    with pytest.raises(errors.RunError, match="a model alone has no recipe"):
        msiam.mine(things.folder.model, place / "things.csv")
    shutil.copytree(place, tmp_path / "copy")
    recipe = tmp_path / "copy/runs/things/recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(place), str(tmp_path / "copy")))
    msiam.mine(tmp_path / "copy/runs/things", negatives=1)
    with (tmp_path / "copy" / "things.csv").open("a") as file:
        file.write("one more,pictures/0.png\n")
    with pytest.raises(errors.RunError, match=r"have changed .* msiam mine .* TABLE"):
        msiam.mine(tmp_path / "copy/runs/things", negatives=1)


def test_another_suffix_is_refused_before_anything_is_done(things, tmp_path):
    with pytest.raises(
        errors.RecipeError, match=r"written as \.parquet, \.csv, \.jsonl; found '\.xlsx'"
    ):
        write_mined(things, None, tmp_path / "t.xlsx")  # fmt: skip


def test_a_table_that_is_read_is_not_replaced(things, place, tmp_path):
    """Neither one that is given nor the run's own; nor by the list of what cannot be read."""
    before = (place / "things.csv").read_bytes()
    for table in (None, place / "things.csv", str(place / "runs" / ".." / "things.csv")):
        with pytest.raises(errors.RunError, match=r"things\.csv: is the table that is read"):
            write_mined(things, table, place / "things.csv")
    assert (place / "things.csv").read_bytes() == before
    (tmp_path / "t-rejected.csv").write_bytes(before)
    with pytest.raises(errors.RunError, match=r"t-rejected\.csv: is the table that is read"):
        write_mined(things, tmp_path / "t-rejected.csv", tmp_path / "t.csv")


def test_the_columns_are_called_like_the_recipes():
    assert names_of("a", "b", ["a", "b", "other"], 2, False) == ["a", "b", "other"]
    assert names_of("a", "other", ["a", "b", "other"], 2, True)[2:] == ["negative_1", "negative_2"]
    with pytest.raises(errors.RecipeError, match="a, negative, negative; rename"):
        names_of("a", "negative", ["a", "negative"], 2, False)


def test_the_file_trains_a_triplet_recipe(things, place, tmp_path):
    out = tmp_path / "triplets.parquet"
    write_mined(things, None, out)
    assert pq.read_table(out).column_names == ["name", "picture", "negative"]
    recipe = {
        "data": {"table": str(out)},
        "columns": {"name": "text", "picture": "image", "negative": "image"},
        "towers": {"text": TEXT, "image": PICTURE},
        "loss": "triplet",
        "train": {"max_steps": 3, "batch_size": 16},
    }
    run = msiam.train(recipe, folder=tmp_path / "run")
    facts = run.metrics["training"]
    assert facts["steps"] == 3
    assert facts["rejected_rows"] == 0
    # Of the pairs, as of those of any other table, a tenth each.
    pairs = len({row["name"] for row in pq.read_table(out).to_pylist()})
    assert facts["validation_rows"] == facts["test_rows"] == round(pairs / 10)
    assert run.metrics["retrieval"]["name_to_picture/gallery"] == facts["test_rows"]
    assert run.evaluate() == {"retrieval": run.metrics["retrieval"]}
    # … and what it has learnt is mined with again: each pair once, though it has several rows.
    again = msiam.mine(run, negatives=1)
    assert again.column_names == ["name", "picture", "negative"]
    assert len({row["name"] for row in again.to_list()}) == len(again)


def test_a_wide_file_trains_a_recipe_and_is_tested_on_what_the_first_run_held_out(place, tmp_path):
    """``msiam mine RUN TEST`` gives the held-out table the columns that the recipe has."""
    table, test = tmp_path / "table.csv", tmp_path / "test.csv"
    lines = (place / "things.csv").read_text().replace("pictures/", f"{place}/pictures/")
    head, *rows = lines.splitlines()
    table.write_text("\n".join([head, *rows[20:]]) + "\n")
    test.write_text("\n".join([head, *rows[:20]]) + "\n")
    recipe = {
        "data": {"table": str(table), "test": str(test)},
        "columns": {"name": "text", "picture": "image"},
        "towers": {"text": TEXT, "image": PICTURE},
        "train": {"max_steps": 2, "batch_size": 16},
    }
    first = msiam.train(recipe, folder=tmp_path / "first")
    write_mined(first, None, tmp_path / "wide.csv", negatives=3, wide=True)
    write_mined(first, str(test), tmp_path / "test_wide.csv", negatives=3, wide=True)
    negatives = dict.fromkeys([f"negative_{n}" for n in (1, 2, 3)], "image")
    recipe |= {
        "data": {"table": str(tmp_path / "wide.csv")},
        "columns": recipe["columns"] | negatives,
        "loss": {"name": "tuple", "in_batch": True},
    }
    alone = msiam.train(recipe, folder=tmp_path / "alone")
    assert alone.metrics["training"]["steps"] == 2
    recipe["data"]["test"] = str(tmp_path / "test_wide.csv")
    run = msiam.train(recipe, folder=tmp_path / "second")
    assert run.metrics["training"]["test_rows"] == 20
    parts = training_parts(run.recipe.data, run.model, run.recipe.train.seed)
    assert not any("share items with test" in note for note in parts.notes)


def test_towers_of_which_one_follows_the_other_share_what_is_known(place):
    """An item that both of them read is one item, in the part that is held out as well."""
    rows = [{"a": f"word {n}", "b": f"word {n - n % 3}"} for n in range(60)]
    recipe = {
        "data": {"table": str(write(place / "thirds.csv", rows))},
        "columns": {"a": "fast", "b": "slow"},
        "towers": {"fast": TEXT, "slow": {"follows": "fast"}},
        "train": {"max_steps": 2, "batch_size": 16},
    }
    run = msiam.train(recipe, folder=place / "runs" / "follower")
    for found, count in ((msiam.mine(run, negatives=20), 48), (msiam.mine(run, rows), 60)):
        third = [
            {side: int(text.split()[1]) // 3 for side, text in row.items()}
            for row in found.to_list()
        ]
        assert len({row["a"] for row in found.to_list()}) == count
        assert all(row["a"] == row["b"] != row["negative"] for row in third)
        held_out = {a for name in ("validation", "test") for a, _ in part(run, name)}
        kept = {row["negative"] for row in found.to_list()}
        assert bool(held_out & kept) == (count == 60)
