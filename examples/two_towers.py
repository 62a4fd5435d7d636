"""Train two different encoders to agree: descriptions ↔ pictures, from plain Python.

    python examples/two_towers.py

The pictures are drawn here, so that nothing has to be fetched; it takes a few seconds.
"""

import itertools

from PIL import Image, ImageDraw

import msiam

COLOURS = ("red", "green", "blue", "orange", "purple", "black")
SHAPES = ("circle", "square", "triangle")
PLACES = {"left": 4, "middle": 12, "right": 20}


def draw(colour: str, shape: str, place: str) -> Image.Image:
    """A shape of 24 pixels on a picture of 48 × 48."""
    picture = Image.new("RGB", (48, 48), "white")
    pen, x = ImageDraw.Draw(picture), PLACES[place]
    box = (x, 12, x + 24, 36)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(x, 36), (x + 12, 12), (x + 24, 36)], fill=colour)
    return picture


kinds = list(itertools.product(COLOURS, SHAPES, PLACES))
rows = [
    {"text": f"a {colour} {shape} on the {place}", "picture": draw(colour, shape, place)}
    for colour, shape, place in kinds
]

model = msiam.Model(
    towers={
        "words": msiam.Tower("lstm", dim=64, hidden=64, min_count=1),
        "image": msiam.Tower("small_cnn", dim=64, size=48),
    },
    columns={"text": "words", "picture": "image"},
)
run = msiam.train(
    model, rows, loss="infonce", epochs=30, batch_size=32, folder="runs/shapes", overwrite=True
)
print(f"recall@1 on shapes never seen: {run.metrics['retrieval']['text_to_picture/recall@1']:.2f}")

gallery = msiam.Gallery.build(model, rows, column="picture", folder="runs/shapes-gallery")
for hit in gallery.search("a blue square on the left", k=3):
    print(f"{hit.score:.3f}  {hit.record['text']}")
