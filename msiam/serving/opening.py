"""A gallery and the run that made it, opened to be served."""

from __future__ import annotations

from pathlib import Path

from msiam.errors import RunError
from msiam.gallery.gallery import Gallery
from msiam.run import load
from msiam.serving.service import Service


def open_service(folder: Path, run: Path | None = None) -> Service:
    """Open a gallery with the run that made it: ``run``, or where it was built from.

    Raises:
        GalleryError: no gallery, a damaged one, or one that another model made.
        RunError: the run is not there any more, or has no model.
    """
    gallery = Gallery.open(folder)
    place = run or gallery.run
    if place is None:
        raise RunError(f"{folder}: was built from a model alone; name its run with --run")
    if not place.is_dir():
        raise RunError(f"{folder}: its run is not at {place}; name it with --run")
    opened = load(place)
    return Service(gallery.attach(opened.model), opened)
