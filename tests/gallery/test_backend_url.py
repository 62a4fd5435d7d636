from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.gallery.backend_url import given_options, named_backend, without_secret

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("faiss", "faiss", {}),
        ("pgvector://db.example:5432/shop", "pgvector", {"url": "db.example:5432/shop"}),
        ("pgvector://me@db/shop", "pgvector", {"url": "me@db/shop"}),
        (
            "pgvector:///run/postgresql?database=shop&index=hnsw",
            "pgvector",
            {"url": "/run/postgresql", "database": "shop", "index": "hnsw"},
        ),
        ("milvus:///data/my%20file.db", "milvus", {"url": "/data/my%20file.db"}),
        ("lancedb://tables?probes=3", "lancedb", {"url": "tables", "probes": "3"}),
        ("lancedb://s3://bucket/tables", "lancedb", {"url": "s3://bucket/tables"}),
        ("faiss://?factory=HNSW32&note=", "faiss", {"factory": "HNSW32", "note": ""}),
    ],
)
def test_a_url_is_a_name_and_options(text, name, options):
    assert named_backend(text, {}) == (name, options)


def test_further_options_stand_beside_the_query():
    found = named_backend("pgvector://db/shop?index=hnsw", {"m": 8})
    assert found == ("pgvector", {"url": "db/shop", "index": "hnsw", "m": 8})
    assert named_backend("faiss", {"factory": "HNSW32"}) == ("faiss", {"factory": "HNSW32"})


def test_an_option_twice_is_refused_whoever_gives_it():
    for text, options in [
        ("pgvector://db/shop?m=8&m=9", {}),
        ("pgvector://db/shop?m=8", {"m": 9}),
        ("pgvector://db/shop", {"url": "other"}),
    ]:
        with pytest.raises(RecipeError, match="is given twice"):
            named_backend(text, options)


def test_a_query_that_is_none():
    with pytest.raises(RecipeError, match=r"backend pgvector: its URL has a query that is none"):
        named_backend("pgvector://db/shop?hnsw", {})


@pytest.mark.parametrize(
    "text",
    [
        f"pgvector://me:{SECRET}@db/shop",
        f"pgvector://:{SECRET}@db/shop",
        f"pgvector://me:{SECRET}/?#@db/shop",
        f"pgvector://me:{SECRET}@@db/shop",
        f"pgvector://db/shop?host=me:{SECRET}@other",
        f"milvus://https://me:{SECRET}@cluster",
        f"me:{SECRET}@db/shop",
    ],
)
def test_a_password_is_refused_and_not_repeated(text):
    with pytest.raises(RecipeError, match="holds a password") as caught:
        named_backend(text, {})
    assert SECRET not in str(caught.value)


@given(st.text(max_size=8), st.text(min_size=1, max_size=8), st.text(max_size=8))
def test_no_password_passes(user, password, host):
    with pytest.raises(RecipeError):
        without_secret(f"{user}:{'_' + password}@{host}")


def test_options_of_the_command_line():
    assert given_options(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert given_options([]) == {}


@pytest.mark.parametrize("pairs", [["hunter2"], ["=hunter2"], ["a=hunter2", "a=hunter2"]])
def test_options_that_are_none_are_refused_without_their_values(pairs):
    with pytest.raises(RecipeError, match="--backend-option") as caught:
        given_options(pairs)
    assert SECRET not in str(caught.value)
