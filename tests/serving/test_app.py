"""The API, in this process."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi")

from msiam.errors import BackendError, GalleryError
from msiam.gallery.gallery import Gallery
from msiam.serving.app import spoken


def problem(answer, status):
    """The problem document of an answer, which says nothing of the server's insides."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status and found["title"] and found["detail"]
    assert "Traceback" not in answer.text and "/tmp" not in answer.text and ".py" not in answer.text
    return found["detail"]


def hits_of(answer):
    assert answer.status_code == 200, answer.text
    return [found["hits"] for found in answer.json()["results"]]


def test_a_text_finds_what_the_library_finds(client):
    gallery = client.service.gallery
    queries = ["a red cat", "a blue boat"]
    body = {"queries": [{"text": text} for text in queries], "k": 4}
    for found, expected in zip(
        hits_of(client.post("/search", json=body)), gallery.search(queries, 4), strict=True
    ):
        assert [hit["id"] for hit in found] == [hit.id for hit in expected]
        assert [hit["record"] for hit in found] == [hit.record for hit in expected]
        np.testing.assert_allclose(
            [hit["score"] for hit in found], [hit.score for hit in expected], atol=1e-5
        )


def test_a_picture_finds_itself_sent_either_way(client, png):
    as_json = {"queries": [{"picture": base64.b64encode(png).decode()}], "column": "picture"}
    form = {"k": "3", "column": "picture"}
    for answer in (
        client.post("/search", json=as_json),
        client.post("/search/picture", files={"picture": ("a.png", png)}, data=form),
    ):
        (hits,) = hits_of(answer)
        assert hits[0]["id"] == "k3" and hits[0]["score"] == pytest.approx(1, abs=1e-5)


def test_a_vector_and_an_embedding_are_the_same(client):
    embedded = client.post("/embed", json={"items": [{"text": "a red cat"}]}).json()
    assert embedded["columns"] == ["name"] and embedded["dim"] == 16
    by_vector = hits_of(
        client.post("/search", json={"queries": [{"vector": embedded["vectors"][0]}]})
    )
    by_text = hits_of(client.post("/search", json={"queries": [{"text": "a red cat"}]}))
    assert [hit["id"] for hit in by_vector[0]] == [hit["id"] for hit in by_text[0]]


def test_queries_of_several_kinds_keep_their_order(client, png):
    body = {"queries": [{"id": "k3"}, {"text": "a red cat"}, {"id": "k4"}], "k": 2}
    mixed = hits_of(client.post("/search", json=body))
    alone = [
        hits_of(client.post("/search", json={**body, "queries": [q]}))[0] for q in body["queries"]
    ]
    assert [[h["id"] for h in hits] for hits in mixed] == [
        [h["id"] for h in hits] for hits in alone
    ]
    assert "k3" not in [hit["id"] for hit in mixed[0]]


def test_a_search_is_filtered_grouped_and_cut_at_a_threshold(client):
    ask = {"queries": [{"text": "a red cat"}], "k": 30}
    (hits,) = hits_of(
        client.post("/search", json={**ask, "where": "colour = 'blue' and price > 10"})
    )
    assert hits and {hit["record"]["colour"] for hit in hits} == {"blue"}
    (hits,) = hits_of(client.post("/search", json={**ask, "group": "colour"}))
    assert sorted(hit["record"]["colour"] for hit in hits) == sorted(
        ["red", "green", "blue", "black", "white", "grey"]
    )
    (everything,) = hits_of(client.post("/search", json={**ask, "exact": True}))
    middle = everything[9]["score"]
    (hits,) = hits_of(client.post("/search", json={**ask, "threshold": middle - 1e-6}))
    assert 10 <= len(hits) < 30
    answer = client.post("/search", json={**ask, "threshold": "run"})
    threshold = client.get("/gallery").json()["threshold"]
    assert all(hit["score"] >= threshold - 1e-6 for hit in hits_of(answer)[0])


@pytest.mark.parametrize("exact", [None, "true", "false"])
def test_a_picture_is_compared_with_every_vector_if_that_is_asked(client, png, monkeypatch, exact):
    search, told = client.service.gallery.search_vectors, []

    def search_vectors(*arguments, **options):
        told.append(options.get("exact", False))
        return search(*arguments, **options)

    monkeypatch.setattr(client.service.gallery, "search_vectors", search_vectors)
    form = {"column": "picture"} | ({} if exact is None else {"exact": exact})
    files = {"picture": ("a.png", png)}
    (hits,) = hits_of(client.post("/search/picture", files=files, data=form))
    assert hits[0]["id"] == "k3" and told == [exact == "true"]


def test_two_items_are_matched_by_the_runs_threshold(client, png):
    body = {"a": {"text": "a red cat"}, "b": {"picture": base64.b64encode(png).decode()}}
    found = client.post("/match", json=body).json()
    expected = client.service.run.match("a red cat", png)
    assert found["similarity"] == pytest.approx(expected.similarity, abs=1e-5)
    assert found["same"] == expected.same and found["threshold"] == expected.threshold
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-4)
    assert found["decision"] == ("same" if expected.same else "different")
    detail = problem(client.post("/match", json={"a": body["a"], "b": body["a"]}), 422)
    assert "give one of each" in detail


def test_records_by_id_and_page_by_page(client):
    found = client.get("/records", params={"id": ["k7", "k3"]}).json()
    assert [record["id"] for record in found["records"]] == ["k7", "k3"]
    assert found["records"][1]["record"]["price"] == 3
    ids, offset = [], 0
    while offset is not None:
        page = client.get("/records", params={"offset": offset, "limit": 12}).json()
        ids += [record["id"] for record in page["records"]]
        offset = page["next"]
    assert sorted(ids) == sorted(f"k{n}" for n in range(30)) and page["total"] == 30
    assert client.get("/records", params={"offset": 10**9}).json()["records"] == []
    assert "'nothing'" in problem(client.get("/records?id=nothing"), 404)


def test_a_text_that_names_a_file_is_a_text(client, workplace):
    """A tower that reads pictures would open it."""
    file = str(workplace / "files/3.png")
    (hits,) = hits_of(client.post("/search", json={"queries": [{"text": file}], "k": 1}))
    assert hits[0]["score"] < 0.999
    embedded = client.post("/embed", json={"items": [{"text": file}]}).json()
    assert embedded["columns"] == ["name"]
    body = {"items": [{"text": file}], "column": "picture"}
    assert "reads no texts" in problem(client.post("/embed", json=body), 422)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"queries": [{"vector": [1.0, 2.0]}]}, 422, "#/queries/0/vector: has 2 numbers"),
        ({"queries": [{"vector": [0.0] * 16}]}, 422, "zero"),
        ({"queries": [{"text": "a"}], "k": 0}, 422, "#/k: Input should be greater"),
        ({"queries": [{"text": "a"}], "k": 10**6}, 422, "#/k: Input should be less than"),
        ({"queries": [{"text": "a"}], "column": "nmae"}, 422, "did you mean 'name'?"),
        ({"queries": [{"text": "a"}], "group": "coulour"}, 422, "coulour"),
        ({"queries": [{"text": "a"}], "where": "prize < 5"}, 422, "prize"),
        ({"queries": [{"text": "a"}], "where": "price <"}, 422, "price <⟨here⟩ (character 8)"),
        ({"queries": [{"id": "nothing"}]}, 422, "'nothing'"),
        ({"queries": [{"picture": "bm8gcGljdHVyZQ=="}]}, 422, "picture: is none"),
        ({"queries": [{"text": "a", "id": "b"}]}, 422, "found text and id of"),
        ({"queries": [{"text": "a\ud800"}]}, 422, "unicode"),
        ({"queries": [{"text": "a"}], "kk": 1}, 422, "#/kk"),
        ([], 422, "#"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_and_where(client, body, status, said):
    assert said in problem(
        client.post(
            "/search", content=json.dumps(body), headers={"Content-Type": "application/json"}
        ),
        status,
    )


def test_numbers_that_are_none(client):
    body = '{"queries": [{"vector": [NaN, 1.0]}]}'
    detail = problem(
        client.post("/search", content=body, headers={"Content-Type": "application/json"}), 422
    )
    assert "finite" in detail


def test_a_body_that_is_no_json(client):
    headers = {"Content-Type": "application/json"}
    deep = '{"queries": ' + "[" * 100_000
    for body in ('{"queries": [', b"\xff\xfe\x00", deep, '{"k": ' + "9" * 10_000 + "}"):
        answer = client.post("/search", content=body, headers=headers)
        problem(answer, 400)


def test_a_query_of_10_mb_is_refused_with_or_without_its_length(client):
    large = json.dumps({"queries": [{"text": "x" * 10_000_000}]}).encode()
    headers = {"Content-Type": "application/json"}
    assert "8,388,608" in problem(client.post("/search", content=large, headers=headers), 413)

    def piecewise():
        for start in range(0, len(large), 100_000):
            yield large[start : start + 100_000]

    problem(client.post("/search", content=piecewise(), headers=headers), 413)
    assert hits_of(client.post("/search", json={"queries": [{"text": "a red cat"}]}))


def test_unknown_paths_and_methods(client):
    problem(client.get("/nothing"), 404)
    assert "takes POST" in problem(client.get("/search"), 405)


def test_one_bad_query_spoils_no_others(client):
    """Jobs of one batch: the worker is given them together."""
    from msiam.serving.service import Embed, Search

    good = Search([("name", "a red cat")], 3)
    jobs = [good, Search(["nothing"], 3), Embed([("picture", b"no picture")]), Search(["k3"], 3)]
    found = client.service.work(jobs)
    assert isinstance(found[1], GalleryError) and "cannot be read" in str(found[2])
    alone = client.service.work([good])
    assert [h.id for h in found[0][0]] == [h.id for h in alone[0][0]]
    assert len(found[3][0]) == 3


def test_an_engine_that_does_not_answer_is_a_503_that_says_nothing_of_it(client, monkeypatch):
    def fail(*arguments, **options):
        raise BackendError("pgvector://someone@a.host/database: table x: connection refused")

    monkeypatch.setattr(client.service.gallery, "search_vectors", fail)
    answer = client.post("/search", json={"queries": [{"text": "a"}]})
    assert "engine" in problem(answer, 503) and answer.headers["Retry-After"] == "5"
    assert "host" not in answer.text


def test_what_the_server_fails_at_is_not_told(client, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("secret of /tmp/somewhere.py")

    monkeypatch.setattr(client.service.gallery, "search_vectors", fail)
    detail = problem(client.post("/search", json={"queries": [{"text": "a"}]}), 500)
    assert "secret" not in detail


def test_a_librarys_error_is_told_without_the_servers_paths(client, monkeypatch):
    folder = client.service.gallery.folder

    def fail(*arguments, **options):
        raise GalleryError(f"{folder}: vectors are wrong; see {folder}/x")

    monkeypatch.setattr(client.service.gallery, "search_vectors", fail)
    detail = problem(client.post("/search", json={"queries": [{"text": "a"}]}), 422)
    assert detail == "vectors are wrong; see …/x"


def test_a_folder_that_is_called_as_a_word_is_takes_no_word_away():
    gallery = SimpleNamespace(folder=Path("price"), root=Path("/data/price"), run=None)
    service = SimpleNamespace(gallery=gallery)
    error = GalleryError("price: the price is wrong; see price/x, /data/price/y or /data/price: z")
    assert spoken(service, error) == "the price is wrong; see …/x, …/y or …: z"


def test_health_and_figures(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    hits_of(client.post("/search", json={"queries": [{"text": "a"}]}))
    client.get("/nothing/of/that/kind")
    figures = client.get("/metrics").text
    assert 'msiam_requests_total{path="/search",status="200"} 1.0' in figures
    assert 'msiam_requests_total{path="other",status="404"} 1.0' in figures
    assert "msiam_records 30.0" in figures and "msiam_batch_queries_count 1.0" in figures


def test_what_the_page_is_told(client):
    found = client.get("/gallery").json()
    assert found["records"] == 30 and found["column"] == "picture"
    assert found["columns"] == ["name", "picture", "colour", "price"]
    assert found["pictures"] == ["picture"] and found["queries"] == ["text", "picture"]


def test_a_model_alone_has_no_threshold(serve):
    client = serve(calibration=None)
    assert client.get("/gallery").json()["threshold"] is None
    body = {"queries": [{"text": "a red cat"}], "threshold": "run"}
    assert "give a number" in problem(client.post("/search", json=body), 422)
    assert hits_of(client.post("/search", json={**body, "threshold": -1.0}))
    body = {"a": {"text": "a red cat"}, "b": {"text": "a red cat"}}
    assert "no threshold" in problem(client.post("/match", json=body), 404)


def test_a_gallery_that_was_emptied_finds_nothing(serve, workplace):
    emptied = workplace / "emptied"
    shutil.copytree(workplace / "pictures", emptied)
    Gallery.open(emptied).remove([f"k{n}" for n in range(30)])
    client = serve(emptied)
    texts = [{"text": "a red cat"}, {"text": "a blue boat"}]
    for how in ({}, {"where": "price < 3"}, {"group": "colour"}, {"threshold": 0.0}, {"k": 1}):
        assert hits_of(client.post("/search", json={"queries": texts, **how})) == [[], []]
    assert "'k3'" in problem(client.post("/search", json={"queries": [{"id": "k3"}]}), 422)
    assert client.get("/records").json() == {"records": [], "total": 0, "next": None}
    assert client.get("/gallery").json()["records"] == 0
    assert client.post("/embed", json={"items": texts}).json()["dim"] == 16
    assert client.get("/healthz").status_code == 200 == client.get("/").status_code
