"""docs/losses.md names every loss and every miner, and its recipe lines are taken as they stand."""

import re
from pathlib import Path

import pytest
import yaml

from msiam.recipe import LossTerm, Recipe
from msiam.registry import registry
from msiam.registry.options import parse_options

PAGE = (Path(__file__).parent.parent / "docs" / "losses.md").read_text(encoding="utf-8")
COSTS, MINERS = PAGE.split("## What each costs")[1].split("## Miners")
LINES = re.findall(r"`(loss: [^`]+)`", PAGE) + re.findall(r"^(loss: .+)$", PAGE, re.MULTILINE)


def terms(line: str) -> list[LossTerm]:
    data = {"table": "unused"}
    towers = {"text": {"encoder": "lstm"}}
    columns = {"a": "text", "b": "text"}
    return Recipe.parse(
        {"data": data, "towers": towers, "columns": columns, **yaml.safe_load(line)}
    ).loss


@pytest.mark.parametrize("name", [spec.name for spec in registry().specs("loss")])
def test_each_loss_has_its_line_and_its_cost(name: str) -> None:
    of_costs = re.findall(r"^\| `(loss: [^`]+)` \|.* O\(.*\|$", COSTS, re.MULTILINE)
    assert name in {term.name for line in of_costs for term in terms(line)}


@pytest.mark.parametrize("name", [spec.name for spec in registry().specs("miner")])
def test_each_miner_has_its_line_and_its_cost(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|.* O\(.*\|$", MINERS, re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_a_recipes_line_is_taken_as_it_stands(line: str) -> None:
    for term in terms(line):
        cls = registry().find("loss", term.name).load()
        cls(parse_options(cls, term.options, "loss"))


def test_what_one_is_told_to_begin_with_is_there() -> None:
    choices = PAGE.split("## What do you have?")[1].split("\n\n")[1]
    rows = [row.split("|")[3].strip(" `") for row in choices.splitlines()[2:]]
    assert rows and set(rows) <= {spec.name for spec in registry().specs("loss")}


def test_the_benchmark_has_its_place() -> None:
    begin, end = PAGE.index("<!-- bench-losses -->\n"), PAGE.index("<!-- end -->")
    assert begin < end
