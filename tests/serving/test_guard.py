"""Who may ask, how much, how long, and what every answer carries."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("fastapi")

from msiam.serving.guard import HEADERS, OPEN
from msiam.serving.limits import Limits

TOKEN = "a-token-of-many-letters"
SEARCH = {"queries": [{"text": "a red cat"}]}


def test_without_the_token_there_is_only_the_page(serve, caplog):
    client = serve(token=TOKEN, hosts=None)
    assert "/" in OPEN and "/healthz" in OPEN
    for path in OPEN:
        assert client.get(path).status_code == 200
    wrong = [{}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"},
             {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer "},
             {"Authorization": "Bearer tökn".encode()}]  # fmt: skip
    for headers in wrong:
        for path in ("/gallery", "/records", "/metrics", "/openapi.json", "/pictures?id=k1", "/x"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
        assert client.post("/search", json=SEARCH, headers=headers).status_code == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post("/search", json=SEARCH, headers=right).status_code == 200
    assert client.get("/metrics", headers=right).status_code == 200
    assert TOKEN not in caplog.text and TOKEN not in client.get("/metrics", headers=right).text


def test_another_hosts_name_is_refused(client):
    """So that no page of another site reaches the loopback by a name of its own."""
    for host in ("evil.example", "evil.example:80", "[::2]", ""):
        assert client.get("/records", headers={"Host": host}).status_code == 400
    for host in ("127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST"):
        assert client.get("/records", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/gallery", 200), ("/nothing", 404), ("/page.js", 200), ("/records", 500)],
)
def test_every_answer_has_the_headers(client, monkeypatch, path, status):
    if status == 500:
        monkeypatch.delattr(type(client.service), "page")
    answer = client.get(path)
    assert answer.status_code == status
    counted = f'path="{"other" if status == 404 else path}",status="{status}"'
    assert counted in client.get("/metrics").text
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "http" not in HEADERS["Content-Security-Policy"]  # no other host


def test_what_takes_too_long_is_a_504(serve):
    client = serve(limits=Limits(seconds=0.2))
    work = client.service.gallery.search_vectors

    def slow(*arguments, **options):
        time.sleep(0.5)
        return work(*arguments, **options)

    client.service.gallery.search_vectors = slow
    answer = client.post("/search", json=SEARCH)
    assert answer.status_code == 504 and "0.2 s" in answer.json()["detail"]


def test_too_many_requests_at_once_are_a_503(serve):
    client = serve(limits=Limits(requests=0))
    answer = client.get("/healthz")
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1


def test_a_full_queue_is_a_503(serve):
    """One query is in work, one waits, and there is room for no other."""
    import threading

    client = serve(limits=Limits(waiting=1))
    let, begun = threading.Event(), threading.Event()
    work = client.service.gallery.search_vectors

    def held(*arguments, **options):
        begun.set()
        let.wait(30)
        return work(*arguments, **options)

    client.service.gallery.search_vectors = held
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/search", json=SEARCH)))
        for _ in range(4)
    ]
    threads[0].start()
    begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    while sum(answer.status_code == 503 for answer in answers) < 2:
        time.sleep(0.01)
    let.set()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["Retry-After"] == "1"


def test_a_bodys_limit(serve):
    client = serve(limits=Limits(body=100))
    assert client.post("/search", json=SEARCH).status_code == 200
    assert client.post("/search", json={**SEARCH, "where": " " * 100}).status_code == 413


@pytest.mark.parametrize("send", ["json", "form"])
def test_bodies_that_fill_the_memory_together_are_a_503(serve, png, send):
    client = serve(limits=Limits(bodies=50))
    if send == "json":
        answer = client.post("/search", json={**SEARCH, "where": " " * 100})
    else:
        answer = client.post("/search/picture", files={"picture": ("a.png", png)})
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    # What is answered counts no more.
    assert client.post("/embed", json={"items": [{"text": "cat"}]}).status_code == 200
