"""The backend on milvus-lite: in this process, and as a server that can be killed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

from msiam_milvus.backend import MilvusBackend
from pymilvus import MilvusClient
from several_tables import change_and_compact

from msiam.errors import GalleryError, RecipeError
from msiam.gallery.gallery import Gallery
from msiam.registry.conformance import check_backend
from msiam.registry.options import parse_options

DIM = 16
SECRET = "root:hunter2-of-the-shop"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return str(tmp_path_factory.mktemp("milvus") / "vectors.db")


def options(**given):
    return parse_options(MilvusBackend, given, "backend milvus")


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "more", [{}, {"index": "HNSW"}, {"index": "IVF_FLAT", "lists": 5, "probes": 3}]
)
def test_conforms(url, more):
    check_backend(MilvusBackend, {"url": url, **more})


def test_only_flat_is_exact(url):
    exact = {
        index: MilvusBackend.build([unit(200)], DIM, options(url=url, index=index, lists=2)).exact
        for index in ("FLAT", "HNSW", "IVF_FLAT")
    }
    assert exact == {"FLAT": True, "HNSW": False, "IVF_FLAT": False}


def test_an_index_is_built_and_searched_as_its_options_say(url):
    vectors, queries = unit(2000), unit(40, seed=1)
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]

    def recall(**more):
        given = options(url=url, index="IVF_FLAT", lists=16, **more)
        _, found = MilvusBackend.build([vectors], DIM, given).search(queries, 10)
        return np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, best, strict=True)]) / 10

    assert recall(probes=1) < 0.8 < recall(probes=8) <= recall(probes=16) == 1


@pytest.mark.parametrize("k", [1, 3, 12, 20, 25])
def test_equal_scores_come_in_the_order_of_positions(url, k):
    vectors = np.repeat(np.eye(2, DIM, dtype=np.float32), 10, axis=0)
    _, positions = MilvusBackend.build([vectors], DIM, options(url=url)).search(vectors[:1], k)
    assert positions[0][:20].tolist() == list(range(min(k, 20)))


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options(url="v.db").uri == str(tmp_path / "v.db")
    assert options(url="/data/v.db").uri == "/data/v.db"
    assert options(url="cluster:19530").uri == "http://cluster:19530"
    assert options(url="https://cluster").uri == "https://cluster"


@pytest.mark.parametrize("url", ["https://me@cluster", "hunter2@cluster", "me:hunter2@cluster"])
def test_whoever_it_is_stands_in_no_url(url):
    with pytest.raises(RecipeError, match=r"password|go into MSIAM_MILVUS_TOKEN") as caught:
        options(url=url)
    assert "hunter2" not in str(caught.value)


def test_a_width_that_milvus_does_not_take(url):
    with pytest.raises(GalleryError, match="vectors of width 1; Milvus takes 2 to 32768"):
        MilvusBackend.build([np.ones((3, 1), np.float32)], 1, options(url=url))


class Server:
    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self):
        words = ["server", "--data-dir", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "milvus_lite", *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end
                time.sleep(0.05)

    def kill(self):
        self.process.kill()
        self.process.wait()

    @property
    def url(self):
        return f"127.0.0.1:{self.port}"

    def tables(self):
        client = MilvusClient(f"http://{self.url}")
        try:
            return sorted(client.list_collections())
        finally:
            client.close()


def soon(action):
    """gRPC waits a little before it tries an address again that did not answer."""
    end = time.monotonic() + 30
    while True:
        try:
            return action()
        except GalleryError:
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "server.db")
    yield server
    server.kill()


def test_a_server_that_is_gone(server, toy, tmp_path, monkeypatch, capfd, caplog):
    """In mid-write and in mid-search: one line, the old gallery, and the token nowhere."""
    monkeypatch.setenv("MSIAM_MILVUS_TOKEN", SECRET)
    caplog.set_level("DEBUG")
    texts = []

    def fails(action):
        with pytest.raises(GalleryError, match=rf"^milvus://{server.url}: table msiam_\w+: ") as e:
            action()
        assert "\n" not in str(e.value)
        texts.append("".join(traceback.format_exception(e.value)))

    def build(model, version):
        return Gallery.build(
            model, toy.table(version), "text", tmp_path / "g", id="sku",
            backend=f"milvus://{server.url}?timeout=3",
        )  # fmt: skip

    gallery = build(toy.Toy(), 1)
    before, tables = sorted((tmp_path / "g").iterdir()), server.tables()
    assert len(tables) == 1

    def chunks():
        yield unit(5000)  # more than one block: the first is sent
        server.kill()
        yield unit(5000)

    fails(lambda: MilvusBackend.build(chunks(), DIM, options(url=server.url, timeout=3)))
    fails(lambda: build(toy.Toy(), 2))
    fails(lambda: gallery.search("1/7", k=1))
    fails(lambda: Gallery.open(tmp_path / "g"))
    assert sorted((tmp_path / "g").iterdir()) == before

    server.start()
    gallery = soon(lambda: Gallery.open(tmp_path / "g", toy.Toy()))
    assert gallery.search("1/7", k=1)[0].id == "s7"
    assert set(tables) < set(server.tables())  # what was half-written is there
    build(toy.Toy(), 2)
    assert len(server.tables()) <= 2  # and dropped by the next build
    assert Gallery.open(tmp_path / "g", toy.Toy()).search("2/7", k=1)[0].id == "s7"

    out = capfd.readouterr()
    texts += [out.out, out.err, caplog.text]
    texts += [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    assert not any("hunter2" in text for text in texts)


def test_a_local_file_holds_the_whole_gallery(toy, tmp_path):
    place = Path(tmp_path / "vectors.db")
    built = Gallery.build(
        toy.Toy(), toy.table(1), "text", tmp_path / "g", id="sku", backend=f"milvus://{place}"
    )
    assert built.search("1/7", k=1)[0].id == "s7"
    assert Gallery.open(tmp_path / "g", toy.Toy()).search("1/8", k=1)[0].id == "s8"


def test_a_gallery_of_several_tables(server, toy, tmp_path):
    change_and_compact("milvus", {"url": server.url}, server.tables, toy, tmp_path / "g")
