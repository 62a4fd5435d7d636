"""A small model of names and pictures with its galleries, served in this process."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import msiam
from msiam.evaluation.calibration import Calibration

COLOURS = ("red", "green", "blue", "black", "white", "grey")
CALIBRATION = Calibration(threshold=0.1, f1_threshold=0.0, slope=5.0, intercept=-0.5)
THINGS = ("cat", "dog", "house", "boat", "tree")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with things.csv, a model of it, and its galleries ``names`` and ``pictures``."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "files").mkdir()
    with (folder / "things.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "name", "picture", "colour", "price"])
        for n, (colour, thing) in enumerate((c, t) for c in COLOURS for t in THINGS):
            Image.effect_noise((32, 32), 10 + 3 * n).save(folder / f"files/{n}.png")
            writer.writerow([f"k{n}", f"a {colour} {thing}", f"files/{n}.png", colour, n])
    model = msiam.Model(
        {
            "text": {"encoder": "lstm", "dim": 16},
            "image": {"encoder": "small_cnn", "dim": 16, "size": 32},
        },
        {"name": "text", "picture": "image"},
    )
    table = msiam.open_table(str(folder / "things.csv"))
    model.tower("text").fit([f"a {c} {t}" for c in COLOURS for t in THINGS])
    model.tower("image").fit([str(file) for file in (folder / "files").iterdir()])
    model.save(folder / "model")
    for column in ("name", "picture"):
        place = folder / f"{column}s"
        msiam.Gallery.build(model.eval(), table, column, place, "key", run=folder / "model")
    return folder


@pytest.fixture(scope="session")
def png(workplace: Path) -> bytes:
    """The picture of record k3."""
    return (workplace / "files/3.png").read_bytes()


@pytest.fixture
def serve(workplace: Path) -> Iterator[Callable]:
    """``serve(gallery, limits=…)``: a client of an application over that gallery."""
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    from starlette.testclient import TestClient

    from msiam.run import open_with_run
    from msiam.serving.app import create_app
    from msiam.serving.service import Service

    open_clients = []

    def start(gallery="pictures", calibration=CALIBRATION, begin=True, **options):
        opened, run = open_with_run(workplace / gallery)
        run.calibration = calibration
        opened.threshold = None if calibration is None else calibration.threshold
        service = Service(opened, run)
        client = TestClient(
            create_app(service, **options),
            base_url="http://127.0.0.1",
            raise_server_exceptions=False,
        )
        client.service = service
        if begin:
            client.__enter__()
            open_clients.append(client)
        return client

    yield start
    for client in open_clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve):
    """A client of the gallery of pictures."""
    return serve()
