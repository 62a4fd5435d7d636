"""What ``make bench-losses`` measures, and what it says where a ratio is missed."""

from __future__ import annotations

import dataclasses

import pytest

from msiam.registry import registry


@pytest.fixture
def losses(benchmark_module, monkeypatch):
    module = benchmark_module("losses")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)  # no peer is here
    return module


@pytest.fixture
def main(losses, monkeypatch):
    def main(*arguments):
        monkeypatch.setattr("sys.argv", ["losses.py", *arguments])
        return losses.main()

    return main


def test_it_runs_on_small_batches_without_any_peer(main, losses, capsys):
    before = losses.DOCS.read_bytes()
    assert main("clip", "infonce_large", "small_supcon", "--tiny") == 0
    out = capsys.readouterr().out
    assert "clip: left out, open_clip is not installed; take the extra 'bench'" in out
    assert "| InfoNCE, a large batch | B = 32, d = 256 |" in out
    assert "| supcon, plain and dense | B = 32, d = 256, 8 a class |" in out
    assert losses.DOCS.read_bytes() == before


def test_where_nothing_was_measured_it_fails(main):
    assert main("clip", "--tiny") == 1


def test_an_unknown_row(main, capsys):
    with pytest.raises(SystemExit) as stopped:
        main("clap")
    assert stopped.value.code == 2
    assert "no row 'clap'; there are ntxent, triplet_all" in capsys.readouterr().err


@pytest.fixture
def measured(losses):
    """A row that is as it must be: half the time, a tenth of the memory."""
    row = dataclasses.replace(losses.ROWS["clip"], time=0.7, memory=0.2)
    return losses.Measured(row, 8192, [1.0, 0.5, 0.6], [2.0, 1.0, 1.0], (10**8, 10**9), 1e-6)


def test_a_row_of_the_table(measured):
    assert measured.missed(tiny=False) == []
    assert measured.line() == (
        "| open_clip ClipLoss | B = 8,192, d = 512 | 1 s | 600 ms | 0.5 (0.5 to 0.6) | ≤ 0.7 "
        "| 1 GB | 100 MB | 0.1 | ≤ 0.2 | 1e-06 |"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ours": [2.0, 1.0, 1.0]}, "clip: time 1, must be at most 0.7"),
        ({"memory": (10**9, 2 * 10**9)}, "clip: memory 0.5, must be at most 0.2"),
        ({"difference": 0.1}, "clip: gradient 0.1, must be at most 0.001"),
        ({"difference": float("nan")}, "clip: gradient nan, must be at most 0.001"),
    ],
)
def test_a_ratio_that_is_missed_is_named(measured, change, said):
    assert dataclasses.replace(measured, **change).missed(tiny=False) == [said]


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ([2.1, 1.2, 0.99], []),
        ([2.1, 1.2, 1.01], ["small_supcon: time 1.01, must be at most 1"]),
    ],
)
def test_as_fast_is_what_one_turn_shows(losses, ours, said):
    found = losses.Measured(losses.ROWS["small_supcon"], 128, ours, [2.0, 1.0, 1.0], (9, 9), 1e-6)
    assert found.missed(tiny=False) == said


def test_each_loss_has_a_small_row(losses):
    names = {name.removeprefix("small_") for name in losses.ROWS if name.startswith("small_")}
    around = {"matryoshka", "memory"}  # another loss, which has its own
    core = {s.name for s in registry().specs("loss") if s.target.startswith("msiam.")}
    for loss in core - around:
        assert any(name == loss or name.startswith(f"{loss}_") for name in names), loss


@pytest.mark.parametrize("name", ["tuple_in_batch", "arcface_16", "triplet_two", "circle_pool"])
def test_small_rows_are_the_same_functions(main, name, capsys):
    assert main(f"small_{name}", "--tiny") == 0
    assert "plain and dense | B = 32, d = 256" in capsys.readouterr().out


def test_a_row_without_a_peer_has_a_limit_of_its_own(losses):
    row = losses.ROWS["infonce_large"]
    found = losses.Measured(row, 65536, [9.0], None, (6 * 10**8, None), None)
    assert found.missed(tiny=False) == ["infonce_large: memory (GB) 0.6, must be at most 0.5"]
    assert "| 9 s |" in found.line()


def test_a_peer_that_cannot_be_measured_is_named(losses, main, monkeypatch, capsys):
    def measure(*given):
        raise RuntimeError("ended with -9")

    monkeypatch.setattr(losses, "measure", measure)
    assert main("small_supcon", "--tiny") == 1
    expected = "small_supcon: could not be measured, a process ended with -9"
    assert expected in capsys.readouterr().out
