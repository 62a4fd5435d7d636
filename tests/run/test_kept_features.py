"""What one run has prepared, the next run of the same data finds: in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

TRAIN = """
import json, sys
import msiam
from msiam.registry import registry

prepared = {}

def watch(name):
    encoder = registry().find("encoder", name).load()
    plain = encoder.prepare

    def prepare(self, items):
        prepared[name] = prepared.get(name, 0) + len(items)
        return plain(self, items)

    encoder.prepare = prepare

folder, *recipes = sys.argv[1:]
for number, recipe in enumerate(map(json.loads, recipes)):
    for tower in recipe["towers"].values():
        watch(tower["encoder"])
    run = msiam.train(recipe, folder=f"{folder}/{number}")
    figures = {k: v for k, v in run.metrics.items() if k != "training"}
    prepared[recipe["name"]] = json.dumps(figures)
print(json.dumps(prepared))
"""
COUNT = 40
TEXT = {
    "name": "texts",
    "columns": {"a": "text", "b": "text"},
    "towers": {
        "text": {
            "encoder": "transformer",
            "config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            "dim": 8,
        },
    },
}
PICTURES = {
    "name": "pictures",
    "columns": {"a": "text", "image": "image"},
    "towers": {
        "text": {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1},
        "image": {"encoder": "small_cnn", "dim": 8, "size": 32},
    },
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Texts that differ by row, of a word each since reports leave words out; and pictures."""
    folder = tmp_path_factory.mktemp("table")
    random = np.random.default_rng(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["a", "b", "image"])
        writer.writeheader()
        for row in range(COUNT):
            pixels = random.integers(0, 256, (36, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
            writer.writerow({"a": f"thing{row}", "b": f"{row}thing", "image": f"{row}.png"})
    return str(folder / "rows.csv")


def trained(table, folder, cache):
    """What a new process prepared, by encoder, and the figures that its runs came to, by name."""
    train = {"max_steps": 2, "batch_size": 8, "precision": "fp32"}
    recipes = [{**recipe, "data": {"table": table}, "train": train} for recipe in (TEXT, PICTURES)]
    command = [sys.executable, "-c", TRAIN, str(folder), *map(json.dumps, recipes)]
    environment = {**os.environ, "MSIAM_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_texts_and_pictures_are_prepared_by_the_first_run_alone(table, tmp_path):
    first = trained(table, tmp_path / "first", tmp_path / "cache")
    again = trained(table, tmp_path / "again", tmp_path / "cache")
    figures = {name: first.pop(name) for name in ("texts", "pictures")}
    assert first == {"transformer": 2 * COUNT, "lstm": COUNT, "small_cnn": COUNT}
    assert again == figures  # and nothing was prepared
