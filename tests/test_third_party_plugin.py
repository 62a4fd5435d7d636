"""The example of a plugin: installed with pip as a stranger would, listed, and held to its test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "third_party_plugin"
CLI = "from msiam.cli import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Run Python where the plugin is installed, and nowhere else."""
    place = tmp_path_factory.mktemp("third_party")
    shutil.copytree(
        EXAMPLE, place / "source", ignore=shutil.ignore_patterns("__pycache__", "build")
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    target = ["--no-build-isolation", "--target", str(place / "site"), str(place / "source")]
    done = subprocess.run([*pip, *target], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(place / "site"), "MSIAM_PLUGINS": "ngrams"},
        )

    return run


def test_it_is_listed_with_what_it_adds(installed):
    found = json.loads(installed("-c", CLI, "plugins", "--json").stdout)
    (plugin,) = [p for p in found["plugins"] if p["name"] == "msiam_ngrams"]
    assert (plugin["version"], plugin["error"]) == ("0.1.0", None)
    (encoder,) = found["encoder"]
    assert (encoder["name"], encoder["modality"]) == ("ngrams", "text")
    shown = installed("-c", CLI, "plugins").stdout
    assert "msiam_ngrams" in shown


def test_its_options_are_shown(installed):
    found = json.loads(installed("-c", CLI, "plugins", "ngrams", "--json").stdout)
    options = {option["option"]: option for option in found["options"]}
    assert options["width"]["default"] == 128
    assert options["buckets"]["description"] == "vectors that the n-grams share"


def test_it_passes_its_own_test_which_is_the_conformance_test(installed):
    done = installed("-m", "pytest", "-q", "-p", "no:cacheprovider", "source/test_ngrams.py")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_model_is_made_of_it(installed):
    code = """
from msiam import Model

model = Model({"text": {"encoder": "ngrams", "dim": 8}}, {"a": "text", "b": "text"})
model.tower("text").fit([])
model.save("model")
print(Model.load("model").encode({"a": ["a red heart"]})["a"].shape)
"""
    done = installed("-c", code)
    assert done.stdout == "(1, 8)\n", done.stderr


@pytest.mark.parametrize(
    "name", ["msiam_ngrams/__init__.py", "msiam_ngrams/encoder.py", "test_ngrams.py"]
)
def test_the_documentation_quotes_the_example_as_it_is(name):
    source = (EXAMPLE / name).read_text()
    assert f"```python\n{source}```\n" in (ROOT / "docs" / "plugins.md").read_text()
