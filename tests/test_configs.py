"""Each recipe's first steps on a small slice of its data; the demo's recipe without any data."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import msiam
from msiam.data.sources import open_table

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DATA = Path(os.environ.get("MSIAM_DATA", ROOT.parent / "shared" / "data"))

#: What a slice of the data is too small for.
SMALL = {
    "omniglot": ["evaluate.way=2"],
    "robust": ["evaluate.1.pairs=8"],
    "robust_undefended": ["evaluate.1.pairs=8"],
    "triplet_images": ["data.split.by=item", "data.split.unseen=20"],
    "quadruplet_images": ["data.split.by=item", "data.split.unseen=20"],
    "semi_supervised": ["data.split.by=item", "towers.photo.init=null"],
    "supervised_tenth": ["data.split.by=item"],
}

#: An encoder to put in the place of any other that reads the same, and one in that one's own place.
SWAPS = {"image": ("conv4", "small_cnn"), "text": ("text_cnn", "lstm")}

needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the data sets of the recipes are not at MSIAM_DATA ({DATA})"
)

#: How a recipe whose table is made, and not a file, gets fewer rows.
FEWER = {
    "siamfc": [
        "data.table.still_pairs=60",
        "data.table.partners=1",
        "data.split={validation: 20, test: 20}",
    ]
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_short(path: Path) -> None:
    recipe = msiam.Recipe.read(path)
    assert recipe.name == path.stem
    assert len(path.read_text().splitlines()) <= 25
    msiam.Model(recipe.towers, recipe.columns)  # every encoder and option exists


@needs_data
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_first_steps_of_a_recipe(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSIAM_DATA", str(DATA))
    run = first_steps(path, tmp_path)
    assert run.metrics["training"]["steps"] == 2
    assert run.folder.report.is_file()


@needs_data
@pytest.mark.parametrize(
    "path",
    # A tracker compares maps, and no other encoder makes any.
    [path for path in CONFIGS if path.stem != "siamfc"],
    ids=lambda path: path.stem,
)
def test_the_towers_of_a_recipe_may_be_swapped(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSIAM_DATA", str(DATA))
    recipe = msiam.Recipe.read(path)
    model = msiam.Model(recipe.towers, recipe.columns)
    swapped = {}
    for name in model.leaders:
        one, other = SWAPS[model.tower(name).encoder.modality]
        swapped[name] = other if recipe.towers[name]["encoder"] == one else one
    swaps = [f"towers.{name}.encoder={encoder}" for name, encoder in swapped.items()]
    # Without a head, a tower is as wide as its encoder; the error says so.
    swaps += [f"towers.{n}.head=linear" for n in swapped if recipe.towers[n].get("head") == "none"]
    run = first_steps(path, tmp_path, *swaps)
    assert {name: run.model.tower(name).options.encoder for name in swapped} == swapped


def first_steps(path: Path, tmp_path: Path, *more: str) -> msiam.Run:
    """The run of two steps of a recipe on a slice of its data."""
    recipe = msiam.Recipe.read(path)
    tables = {
        key: _slice(table, tmp_path / f"{key}.parquet")
        for key in ("table", "more", "test")
        if isinstance(table := getattr(recipe.data, key), str)
    }
    overrides = [f"data.{key}={table}" for key, table in tables.items()]
    overrides += ["data.split={validation: 0.2, test: 0.2}", "train.max_steps=2"]
    overrides += ["train.batch_size=8", "train.evaluations=1"]
    overrides += [*FEWER.get(path.stem, []), *SMALL.get(path.stem, []), *more]
    return msiam.train(msiam.Recipe.read(path, overrides), folder=tmp_path / "run")


def _slice(table: str, out: Path) -> Path:
    """The first 120 rows of a table, as a .parquet of its schema where it is one."""
    if not table.endswith(".parquet"):
        open_table(table).dataset.select(range(120)).to_parquet(out)
        return out
    batch = next(pq.ParquetFile(msiam.resolve(table)).iter_batches(120))
    pq.write_table(batch.schema.empty_table().from_batches([batch]), out)
    return out
