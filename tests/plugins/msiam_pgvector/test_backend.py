"""The backend on a real PostgreSQL, which is a package's."""

from __future__ import annotations

import gc
import signal
import socket
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("psycopg")
pytest.importorskip("pgvector")

from msiam_pgvector.backend import PgvectorBackend
from several_tables import change_and_compact

from msiam.errors import GalleryError
from msiam.gallery.gallery import Gallery
from msiam.registry.conformance import check_backend
from msiam.registry.options import parse_options

DIM = 16
SECRET = "hunter2-of-the-shop"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("PGPASSWORD", raising=False)


def given(server, **more):
    return {"url": server.url, "database": "postgres", "user": "postgres", **more}


def options(server, **more):
    return parse_options(PgvectorBackend, given(server, **more), "backend pgvector")


def unit(count, seed=0, dim=DIM):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(server, vectors, **more):
    return PgvectorBackend.build([vectors], vectors.shape[1], options(server, **more))


def search(vectors, queries, k, among=None):
    """By brute force: scores and positions, ties by position."""
    products = queries @ vectors.T
    if among is not None:
        products[:, ~among] = -np.inf
    best = np.lexsort((np.broadcast_to(np.arange(len(vectors)), products.shape), -products))
    return np.take_along_axis(products, best, 1)[:, :k], best[:, :k]


@pytest.mark.parametrize(
    "more", [{}, {"index": "hnsw"}, {"index": "ivfflat", "lists": 5, "probes": 3}]
)
def test_conforms(server, more):
    check_backend(PgvectorBackend, given(server, **more))


@pytest.mark.parametrize("index", ["none", "hnsw", "ivfflat"])
@pytest.mark.parametrize("share", [0.002, 0.1, 0.9])
def test_among_some_positions_it_is_exact_whatever_the_index(server, index, share):
    vectors, queries = unit(2000), unit(5, seed=1)
    among = np.random.default_rng(2).random(2000) < share
    found = build(server, vectors, index=index, ef_search=5, probes=1)
    assert found.filters and found.exact == (index == "none")
    scores, positions = found.search(queries, 7, among=among)
    true, best = search(vectors, queries, 7, among)
    some = np.isfinite(true)
    np.testing.assert_allclose(scores[some], true[some], atol=1e-6)
    assert (positions[some] == best[some]).all() and (positions[~some] == -1).all()


def test_among_none_nothing_is_found(server):
    scores, positions = build(server, unit(30)).search(unit(2), 3, among=np.zeros(30, bool))
    assert (positions == -1).all() and np.isneginf(scores).all()


@pytest.mark.parametrize("k", [1, 3, 12, 20, 25])
def test_equal_scores_come_in_the_order_of_positions(server, k):
    vectors = np.repeat(unit(2), 10, axis=0)[np.random.default_rng(0).permutation(20)]
    _, positions = build(server, vectors).search(vectors[:1], k)
    wanted = search(vectors, vectors[:1], k)[1][0].tolist()
    assert positions[0][: len(wanted)].tolist() == wanted


def test_an_index_gives_as_many_as_are_wanted_though_that_is_more_than_its_candidates(
    server, tmp_path
):
    index = build(server, unit(3000), index="hnsw", ef_search=10)
    index.save(tmp_path / "index")
    for k in (10, 300, 1000, 2000):
        assert (index.search(unit(2, seed=3), k)[1] >= 0).all()
    # What one search asked for holds for no other.
    assert index._table._connect().execute("SHOW hnsw.ef_search").fetchone() == ("10",)
    PgvectorBackend.discard(tmp_path / "index")


def test_an_index_is_used_unless_some_positions_are_asked_for(server, tmp_path):
    index = build(server, unit(8000), index="hnsw", m=4, ef_construction=8, ef_search=10)
    index.save(tmp_path / "index")

    def scans():
        connection = index._table._connect()
        connection.execute("SELECT pg_stat_force_next_flush()")
        connection.commit()
        with server.connect() as other:
            return dict(
                other.execute(
                    "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relname = %s",
                    (index._table.name,),
                ).fetchall()
            )[f"{index._table.name}_vector_idx"]

    assert scans() == 0
    index.search(unit(3), 5)
    assert scans() == 3
    index.search(unit(3), 5, among=np.arange(8000) < 100)
    assert scans() == 3
    PgvectorBackend.discard(tmp_path / "index")


def test_vectors_wider_than_an_index_takes_are_refused(server):
    with pytest.raises(GalleryError, match="width 2001, and with index 'hnsw' pgvector takes 2000"):
        build(server, unit(10, dim=2001), index="hnsw")
    assert len(build(server, unit(10, dim=2001))) == 10


def test_nobody_sees_a_table_before_it_is_saved_and_unsaved_it_is_gone(server, tmp_path):
    before = server.tables()
    index = build(server, unit(50))
    assert server.tables() == before
    del index
    gc.collect()
    assert server.tables() == before
    index = build(server, unit(50))
    index.save(tmp_path / "index")
    assert len(server.tables()) == len(before) + 1
    PgvectorBackend.discard(tmp_path / "index")
    assert server.tables() == before


KILLED = """
import os, signal, sys
import numpy as np
from msiam_pgvector.backend import PgvectorBackend

def chunks():
    yield np.ones((70_000, 16), np.float32)
    yield np.ones((70_000, 16), np.float32)
    os.kill(os.getpid(), signal.SIGKILL)

where = {"url": sys.argv[1], "database": "postgres", "user": "postgres"}
PgvectorBackend.build(chunks(), 16, PgvectorBackend.Options(**where))
"""


def test_a_builder_that_is_killed_leaves_no_table(server):
    before = server.tables()
    done = subprocess.run([sys.executable, "-c", KILLED, server.url])
    assert done.returncode == -signal.SIGKILL
    assert server.tables() == before
    assert len(build(server, unit(10))) == 10


def test_threads_search_at_once(server):
    vectors = unit(300)
    index = build(server, vectors)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: index.search(vectors[n : n + 1], 1)[1][0, 0], range(100)))
    assert found == list(range(100))


def test_names_are_quoted(server, tmp_path):
    evil = 'a"; DROP TABLE msiam_x; --'
    with server.connect() as connection:
        connection.execute('CREATE SCHEMA "a""; DROP TABLE msiam_x; --"')
    where = options(server, namespace=evil)
    index = PgvectorBackend.build([unit(20)], DIM, where)
    index.save(tmp_path / "index")
    again = PgvectorBackend.open(tmp_path / "index", where)
    assert again.search(unit(20)[3:4], 1)[1].tolist() == [[3]]
    PgvectorBackend.discard(tmp_path / "index")


def test_a_schema_that_is_not_there(server):
    with pytest.raises(GalleryError, match='schema "nowhere" does not exist') as caught:
        build(server, unit(5), namespace="nowhere")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_gone_in_mid_write_leaves_the_old_gallery(new_server, toy, tmp_path):
    server = new_server()
    rows = toy.table(1)
    Gallery.build(
        toy.Toy(), rows, "text", tmp_path / "g", id="sku", backend="pgvector",
        options=given(server),
    )  # fmt: skip
    before = sorted((tmp_path / "g").iterdir())
    tables = server.tables()

    class Crashing(toy.Toy):
        def embed(self, column, items, *rest, **more):
            server.crash()
            return super().embed(column, items, *rest, **more)

    with pytest.raises(GalleryError, match=r"^pgvector://.*: table msiam_\w+: ") as caught:
        Gallery.build(
            Crashing(), toy.table(2), "text", tmp_path / "g", id="sku", backend="pgvector",
            options=given(server),
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert sorted((tmp_path / "g").iterdir()) == before
    with pytest.raises(GalleryError, match=r"^pgvector://"):
        Gallery.open(tmp_path / "g")
    server.start()
    gallery = Gallery.open(tmp_path / "g", toy.Toy())
    assert gallery.search("1/7", k=1)[0].id == "s7"
    assert server.tables() == tables


def test_a_server_that_is_gone_in_mid_build_and_in_mid_search(new_server, tmp_path):
    server = new_server()
    vectors = unit(500)
    index = build(server, vectors)
    index.save(tmp_path / "index")
    tables = server.tables()

    def chunks():
        yield unit(70_000)  # more than one block: the first is sent
        server.crash()
        yield unit(70_000)

    with pytest.raises(GalleryError, match=r"table msiam_\w+: .*(clos|terminat|shutdown|gone)"):
        PgvectorBackend.build(chunks(), DIM, options(server))
    with pytest.raises(GalleryError, match=r"table msiam_\w+: "):
        index.search(vectors[:1], 3)
    server.start()
    assert index.search(vectors[:1], 1)[1].tolist() == [[0]]  # it connects again
    assert server.tables() == tables

    unsaved = build(server, vectors)
    server.crash()
    server.start()
    with pytest.raises(GalleryError, match=r"table msiam_\w+: "):
        unsaved.save(tmp_path / "lost")
    assert server.tables() == tables


def test_the_password_comes_from_the_environment_and_stands_nowhere(
    new_server, toy, tmp_path, monkeypatch, capfd, caplog
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = new_server(password=SECRET, port=port)
    url = f"pgvector://postgres@127.0.0.1:{port}/postgres?index=hnsw&ef_search=50"
    monkeypatch.setenv("PGPASSWORD", SECRET)
    caplog.set_level("DEBUG")

    def build(backend=url):
        return Gallery.build(toy.Toy(), toy.table(1), "text", tmp_path / "g", backend=backend)

    gallery = build()
    assert gallery.manifest.options["ef_search"] == 50
    assert gallery.search("1/7", k=1)[0].record["sku"] == "s7"

    texts = []

    def fails(action):
        with pytest.raises(Exception) as caught:
            action()
        assert "\n" not in str(caught.value)
        texts.append("".join(traceback.format_exception(caught.value)))

    fails(lambda: build(url.replace("postgres@", f"postgres:{SECRET}@")))
    fails(lambda: build(f"{url}&password={SECRET}"))
    server.crash()
    fails(lambda: gallery.search("1/7", k=1))
    fails(build)
    server.start()
    monkeypatch.setenv("PGPASSWORD", f"not {SECRET}")
    fails(lambda: Gallery.open(tmp_path / "g"))
    monkeypatch.delenv("PGPASSWORD")
    fails(lambda: Gallery.open(tmp_path / "g"))
    assert any("password authentication failed" in text for text in texts)

    out = capfd.readouterr()
    texts += [out.out, out.err, caplog.text, server.log()]
    texts += [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    assert len(texts) > 10
    assert not any(SECRET in text for text in texts)


def test_a_gallery_of_several_tables(new_server, toy, tmp_path):
    server = new_server()
    gallery = change_and_compact("pgvector", given(server), server.tables, toy, tmp_path / "g")
    assert not list(gallery.folder.glob("vectors-*"))  # PostgreSQL gives them back
