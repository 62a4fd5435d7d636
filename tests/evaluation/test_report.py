from __future__ import annotations

from html.parser import HTMLParser

import pytest
from PIL import Image

from msiam.errors import RunError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.embedding_map import EmbeddingMap, Point
from msiam.evaluation.findings import (
    Choice,
    Grid,
    most_confident_mistakes,
    most_confident_wrong_answers,
    sample_searches,
)
from msiam.evaluation.pairs import pair_scores
from msiam.evaluation.report import Line, ReportData, number, render, table, write_report
from msiam.evaluation.retrieval import Retrieval
from msiam.evaluation.verdict import Verdict
from msiam.evaluation.verification import Verification

VOID = {"meta", "img", "br", "hr", "link", "input"}
EVIL = '<script>alert(1)</script><img src="http://example.com/x.png" onerror=alert(2)>'


class Page(HTMLParser):
    """What a browser would find: the elements, their attributes, the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def check_self_contained(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action"}:
                assert value.startswith(("data:image/", "#"))


@pytest.fixture
def full(aligned) -> ReportData:
    embedded = aligned(60, noise=2.0)
    calibration = Calibration.fit(*pair_scores(embedded, seed=1))
    values = {
        "a": [f"text {i} {EVIL}" for i in range(60)],
        "b": [Image.new("RGB", (32, 32), (4 * i, 0, 0)) for i in range(60)],
    }
    results = {
        "verification": Verification().evaluate(embedded, calibration),
        "retrieval": Retrieval().evaluate(embedded, calibration),
    }
    return ReportData(
        title=f"a title {EVIL}",
        recipe_yaml=f"name: {EVIL}",
        facts={"tower a": f"lstm {EVIL}"},
        headlines=[result.headline for result in results.values()],
        metrics={name: result.metrics for name, result in results.items()},
        curves={name: result.curves for name, result in results.items()},
        history=[{"loss": 2.0, "epoch": 1.0}, {"loss": 1.0, "epoch": 2.0}],
        watched="mrr",
        notes=[f"The split took 4 rows {EVIL}"],
        mistakes=[
            *most_confident_mistakes(embedded, calibration, values, n=3),
            *most_confident_wrong_answers(embedded, values, n=4),
        ],
        searches=sample_searches(embedded, values, n=2),
    )


def test_a_full_report_is_one_page_that_needs_nothing_else(full, tmp_path):
    path = write_report(tmp_path / "report.html", full)
    page = Page(path.read_text(encoding="utf-8"))
    check_self_contained(page)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("svg") == 5  # ROC, scores, recall both ways, loss
    assert tags.count("img") >= 3 + 4 + 4 * 3
    for heading in (
        "Most confident mistakes",
        "Sample searches",
        "Training",
        "Set aside",
        "Recipe",
    ):
        assert heading in page.text
    for headline in full.headlines:
        assert headline in page.text
    for name in ("average_precision", "recall@10", "median_rank", "a → b"):
        assert name in page.text


def test_a_pair_stands_with_its_decision_and_what_each_word_adds():
    effects = {"one": [("red", 0.2), (EVIL, -0.1)]}
    pairs = [
        Verdict({"one": f"red {EVIL}", "other": "blue"}, "Said same", "so", row=7, right=True),
        Verdict({"one": f"red {EVIL}", "other": "blue"}, "Said so", "not", row=8, effects=effects),
    ]
    page = Page(render(ReportData("run", pairs=pairs[:1])))
    check_self_contained(page)
    assert "Said same; so ✓ row 7" in " ".join(page.text.split())
    assert "Green are words" not in page.text
    page = Page(render(ReportData("run", pairs=pairs)))
    check_self_contained(page)
    assert "Said so; not. row 8" in " ".join(page.text.split())
    assert "Green are words" in page.text
    spans = [attributes.get("class") for tag, attributes in page.tags if tag == "span"]
    assert spans.count("adds") == spans.count("takes") == 1


def test_the_map_stands_with_its_legend_and_says_what_lines_and_dashes_mean():
    points = [Point(EVIL, 0, 0, 0), Point("b", 1, 1, 1, false=True)]
    drawn = EmbeddingMap(points, ["cats", EVIL], [(0, 1, False)], "Two items.")
    page = Page(render(ReportData("run", map=drawn)))
    check_self_contained(page)
    text = " ".join(page.text.split())
    assert "Embedding map Two items. A line joins the items of a row; a dashed one" in text
    assert "only claim to be of their class" in text and "cats" in text
    keys = [attributes.get("class") for tag, attributes in page.tags if tag == "i"]
    assert keys == ["k0", "k1"]
    plain = EmbeddingMap([Point("a", 0, 0, 0)], [], [(0, 0, True)], "One.")
    text = Page(render(ReportData("run", map=plain))).text
    assert "a dashed one" not in text and "only claim" not in text


def test_what_an_item_says_is_shown_and_not_run(full):
    html = render(full)
    assert "<script" not in html
    page = Page(html)
    assert not any("example.com" in str(attributes) for _, attributes in page.tags)
    assert page.text.count("<script>alert(1)</script>") >= 4 + 3 + 4


def test_a_broken_picture_does_not_break_the_report():
    mistake = Verdict({"a": b"no picture", "b": None}, "Said same", "they are different", 0.5)
    page = Page(render(ReportData("run", mistakes=[mistake])))
    assert "This picture cannot be shown" in page.text
    assert "None" in page.text


def test_a_title_is_enough():
    page = Page(render(ReportData("run")))
    check_self_contained(page)
    assert [tag for tag, _ in page.tags if tag in {"h1", "h2", "section"}] == ["h1"]


def test_figures_of_somebody_elses_evaluator_are_listed():
    page = Page(render(ReportData("run", metrics={"mine": {"hits": 7.0}})))
    assert "hits" in page.text


def test_tables_of_many_directions_are_folded_away():
    names = [f"a_to_{b}" for b in "bcdefgh"]
    few, many = (
        render(ReportData("t", metrics={"retrieval": {f"{name}/mrr": 0.5 for name in some}}))
        for some in (names[:3], names)
    )
    assert "<summary>Show all figures" not in few
    assert "<summary>Show all figures of 7 directions</summary>" in many
    assert few.count("<table") == 3 and many.count("<table") == 7


def test_attacks_are_no_directions():
    attacks = [f"{how}_{norm}/accuracy@4" for how in ("fgsm", "pgd") for norm in ("linf", "l2")]
    figures = {"pairs": 200.0, **dict.fromkeys(attacks, 0.5)}
    page = render(ReportData("t", metrics={"adversarial": figures}))
    assert page.count("<table") == 5 and "<summary>Show all figures" not in page


def test_the_table_puts_interval_and_chance_beside_the_value():
    metrics = {
        "mrr": 0.5,
        "a_to_b/queries": 4044.0,
        "a_to_b/recall@1": 0.8123,
        "a_to_b/recall@1/low": 0.8,
        "a_to_b/recall@1/high": 0.825,
        "a_to_b/chance/recall@1": 0.00025,
        "a_to_b/median_rank": 1.0,
    }
    assert table(metrics) == {
        "a → b": [
            Line("queries", "4,044", "", ""),
            Line("recall@1", "0.812", "0.800–0.825", "0.00025"),
            Line("median_rank (lower is better)", "1", "", ""),
        ],
        "all directions": [Line("mrr", "0.500", "", "")],
    }
    assert list(table({"auc": 0.9, "chance/auc": 0.5})) == [""]
    assert list(table({"auc": 0.9, "hard/auc": 0.8})) == ["hard", "in all"]
    assert list(table({"mrr": 0.5, "a_to_a/mrr": 0.5})) == ["a → a"]
    assert list(table({"mrr": 0.5, "a_to_a/mrr": 0.6})) == ["a → a", "all directions"]
    both = {"mrr": 0.5, "a_to_a/mrr": 0.5, "unseen/mrr": 0.4, "unseen/a_to_a/mrr": 0.4}
    assert list(table(both)) == ["a → a", "unseen/a → a"]
    assert list(table({**both, "unseen/map": 0.3})) == ["a → a", "unseen", "unseen/a → a"]
    assert len(table({"mrr": 0.5, "a_to_b/mrr": 0.5, "b_to_a/mrr": 0.5})) == 3


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0.000"), (1.0, "1.000"), (3.5, "3.5"), (12345.0, "12,345"), (0.0012, "0.0012")],
)
def test_number(value, said):
    assert number(value) == said


def test_a_full_disk_leaves_the_report_that_was_there(tmp_path, monkeypatch):
    path = write_report(tmp_path / "report.html", ReportData("first"))
    before = path.read_text()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full_disk)
    with pytest.raises(RunError, match="no room to write it"):
        write_report(path, ReportData("second"))
    monkeypatch.undo()
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_decision_is_a_grid_with_what_was_said_and_what_is_right():
    picture = Image.new("L", (20, 20))
    choices = [Choice([picture, EVIL], 0.5, said=True, right=False)]
    choices += [
        Choice([picture, picture], 0.25, said=False, right=right) for right in (True, False)
    ]
    page = Page(render(ReportData("run", grids=[Grid(picture, "character", choices)])))
    check_self_contained(page)
    cells = [attributes["class"].split() for tag, attributes in page.tags if tag == "li"]
    assert cells == [["said"], ["right"], []]
    assert sum(tag == "img" for tag, _ in page.tags) == 1 + 5
    assert "decided wrongly" in " ".join(page.text.split()) and "0.250 ✓" in page.text
