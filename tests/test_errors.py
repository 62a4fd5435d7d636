from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam import errors
from msiam.errors import MsiamError, one_of

WORDS = st.text(st.characters(categories=["L", "N"], include_characters="_-"), min_size=1)


def test_the_nearest_choice_comes_first_and_then_all_of_them():
    assert (
        one_of("lsmt", ["transformer", "lstm"]) == "did you mean 'lstm'? Known: lstm, transformer."
    )


@pytest.mark.parametrize(("typed", "meant"), [("LSTM", "lstm"), ("infoNCE", "infonce")])
def test_capitals_do_not_hide_the_nearest_choice(typed, meant):
    assert one_of(typed, ["lstm", "infonce"]).startswith(f"did you mean '{meant}'?")


def test_capitals_of_the_choice_are_kept():
    assert one_of("title", ["Title", "body"]).startswith("did you mean 'Title'?")


def test_nothing_is_guessed_where_nothing_is_near():
    assert one_of("zebra", ["lstm"]) == "Known: lstm."


def test_no_choices_at_all():
    assert one_of("anything", []) == "Known: none."


@given(WORDS, st.lists(WORDS, max_size=8))
def test_every_choice_is_named(name, choices):
    message = one_of(name, choices)
    assert message.endswith(f"Known: {', '.join(sorted(choices)) or 'none'}.")


def test_every_error_of_the_module_is_a_users_error_and_says_what_it_is_for():
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    ]
    assert len(kinds) >= 8
    for kind in kinds:
        assert issubclass(kind, MsiamError)
        assert kind.__doc__
