"""docs/losses.md names every loss and every miner, and its recipe lines are taken as they stand."""

import re
from pathlib import Path

import pytest
import yaml

from msiam.losses.base import Loss
from msiam.losses.wrapper import Wrapper
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


def build(term: LossTerm) -> Loss:
    cls = registry().find("loss", term.name).load()
    return cls(parse_options(cls, term.options, "loss"))


@pytest.mark.parametrize("name", [spec.name for spec in registry().specs("loss")])
def test_each_loss_has_its_columns_and_its_cost(name: str) -> None:
    """What is said of the columns and of what it learns from is what the loss declares."""
    told: set[int] = set()
    rows = [[cell.strip() for cell in row.split("|")] for row in COSTS.splitlines() if "|" in row]
    rows = [
        row for row in rows if row[1].startswith("`loss") and terms(row[1][1:-1])[0].name == name
    ]
    assert rows
    for _, line, columns, time, memory, paper, _ in rows:
        loss = build(terms(line[1:-1])[0])
        assert "O(" in time or time == "as the [miner](#miners)"
        assert "O(" in memory or memory == "the same"
        assert paper
        if columns == "as the loss inside":
            assert isinstance(loss, Wrapper)
            return
        told |= set(map(int, re.findall(r"\d", columns)))
        assert ("more" in columns or "any" in columns) == loss.more
        assert set(re.findall("labels|scores|classes", columns)) == set(loss.needs)
    assert told == (set() if "any" in columns else set(loss.columns))


@pytest.mark.parametrize("name", [spec.name for spec in registry().specs("miner")])
def test_each_miner_has_its_line_and_its_cost(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|.* O\(.*\|$", MINERS, re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_a_recipes_line_is_taken_as_it_stands(line: str) -> None:
    for term in terms(line):
        build(term)


def test_what_one_is_told_to_begin_with_is_there() -> None:
    choices = PAGE.split("## What do you have?")[1].split("\n\n")[1]
    rows = [row.split("|")[3].strip(" `") for row in choices.splitlines()[2:]]
    assert rows and set(rows) <= {spec.name for spec in registry().specs("loss")}


def test_the_benchmark_has_its_place() -> None:
    begin, end = PAGE.index("<!-- bench-losses -->\n"), PAGE.index("<!-- end -->")
    assert begin < end
