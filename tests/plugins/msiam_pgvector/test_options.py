from __future__ import annotations

import pytest

pytest.importorskip("psycopg")
pytest.importorskip("pgvector")

from msiam_pgvector.backend import PgvectorBackend

from msiam.errors import RecipeError
from msiam.registry.options import parse_options


def options(**given):
    return parse_options(PgvectorBackend, given, "backend pgvector")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"url": "db"}, {"host": "db"}),
        ({"url": "db:5433/shop"}, {"host": "db", "port": 5433, "dbname": "shop"}),
        ({"url": "me%40work@db/a%20b"}, {"host": "db", "user": "me@work", "dbname": "a b"}),
        ({"url": "[::1]:5432/shop"}, {"host": "::1", "port": 5432, "dbname": "shop"}),
        (
            {"url": "/run/postgresql", "database": "shop", "user": "me"},
            {"host": "/run/postgresql", "dbname": "shop", "user": "me"},
        ),
        ({"url": "db", "database": "shop"}, {"host": "db", "dbname": "shop"}),
    ],
)
def test_where_the_server_is(given, wanted):
    assert options(**given).connection() == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "url: is missing"),
        ({"url": ""}, "url: found ''"),
        ({"url": "db:hunter2/shop"}, "its port is no number"),
        ({"url": "db:99999999/shop"}, "its port is no number"),
        ({"url": "me:hunter2@db/shop"}, "holds a password"),
        ({"url": "db/shop", "database": "other"}, "the url names the dbname already"),
        ({"url": "me@db", "user": "you"}, "the url names the user already"),
        ({"url": "db", "password": "hunter2"}, "password: no such key"),
        ({"url": "db", "index": "hnsw", "m": 40}, "ef_construction must be at least 80"),
        ({"url": "db", "index": "btree"}, "index: found 'btree'"),
        ({"url": "db", "probes": "0"}, "probes: found '0'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_a_password(given, message):
    with pytest.raises(RecipeError, match=message) as caught:
        options(**given)
    assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value)
