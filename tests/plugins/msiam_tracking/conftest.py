"""A made-up film: a square with a pattern of its own, which moves over noise."""

import json

import numpy as np
import pytest
import torch
from msiam_tracking.encoder import SiamFC
from PIL import Image

import msiam

SIDE = 24
TOWER = {"encoder": "siamfc", "dim": 8 * 484, "head": "none", "normalize": False}
TOWER |= {"width": 8, "channels": 8}


def square_film(count=6, speed=(5, 3)):
    """Frames (H, W, 3) and the true boxes (count, 4)."""
    random = np.random.default_rng(0)
    ground = random.integers(90, 130, (150, 200, 3), np.uint8)
    target = np.kron(random.integers(0, 2, (4, 4, 3)) * 255, np.ones((6, 6, 1))).astype(np.uint8)
    frames, boxes = [], []
    for number in range(count):
        x, y = 60 + speed[0] * number, 50 + speed[1] * number
        frame = ground.copy()
        frame[y : y + SIDE, x : x + SIDE] = target
        frames.append(Image.fromarray(frame))
        boxes.append([x, y, SIDE, SIDE])
    return frames, np.array(boxes, float)


@pytest.fixture
def film():
    return square_film()


@pytest.fixture
def sequence(tmp_path):
    """The same film as a folder in OTB's layout."""
    frames, boxes = square_film()
    folder = tmp_path / "Square"
    (folder / "img").mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        frame.save(folder / "img" / f"{number:04d}.png")
    lines = [",".join(f"{value:g}" for value in box) for box in boxes]
    (folder / "groundtruth_rect.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def model():
    """One that has learnt nothing: random filters tell a pattern from noise as well."""
    torch.manual_seed(0)
    made = msiam.Model({"patch": TOWER}, {"exemplar": "patch", "search": "patch"})
    made.tower("patch").fit([])
    encoder = made.encoders["patch"]
    assert isinstance(encoder, SiamFC)
    frames, _ = square_film(1)
    with torch.no_grad():  # what the norms would have seen
        encoder.train()
        pixels = encoder.collate(encoder.prepare([frames[0].crop((0, 0, 100, 100)), *frames]))
        for _ in range(30):
            encoder(pixels)
    return made.eval()


@pytest.fixture
def saved(model, tmp_path):
    assert json.dumps(model.describe())
    return model.save(tmp_path / "model")
