"""A model that needs no training, and, run as a script, processes that rebuild a gallery.

The script reads commands, a line each, and forks a process for each one, so that the libraries are
imported once. It answers with the process's number:

    loop FOLDER        rebuild without end, each time with the next version of the table
    die FOLDER N       rebuild once, and be killed at the Nth step in the folder; 0: never
    change FOLDER N    change it N times, from the version that it has: see ``change``
    wait FOLDER        remove the record s0, once no other process is writing
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import forked

DIM = 16
ROWS = 60


class Toy:
    """Embeds a text, or a picture's bytes, by its hash: the same item gives the same vector."""

    def __init__(self, name="toy"):
        self.name = name
        self.columns = {"text": "text", "image": "image"}
        self.calls = []

    def fingerprint(self):
        return f"made by {self.name}"

    def column_for(self, query, but=None):
        return "image" if isinstance(query, dict) or Path(query).is_file() else "text"

    def embed(self, column, items, root=None, progress=None, how=None):
        self.calls.append((column, list(items), root))
        vectors, rejected = [np.empty((0, DIM), np.float32)], []
        for row, item in enumerate(items):
            if isinstance(item, dict):
                item = item["bytes"] or (Path(root or ".") / item["path"]).read_bytes()
            if item:
                vectors.append(unit(item)[None])
            else:
                rejected.append((row, "is empty"))
        if progress is not None:
            progress(len(items))
        return np.concatenate(vectors), rejected


def unit(item):
    raw = item if isinstance(item, bytes) else item.encode()
    seed = int.from_bytes(hashlib.sha256(raw).digest()[:8], "little")
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def table(version):
    return [
        {"sku": f"s{row}", "text": f"{version}/{row}", "version": version} for row in range(ROWS)
    ]


def build(folder, version):
    from msiam.gallery.gallery import Gallery

    return Gallery.build(Toy(), table(version), column="text", folder=folder, id="sku")


def changed(change):
    """A toy whose vectors are changed before anybody sees them."""
    model = Toy()
    embed = model.embed

    def embed_changed(*arguments, **options):
        vectors, rejected = embed(*arguments, **options)
        return change(vectors), rejected

    model.embed = embed_changed
    return model


#: What a folder holds when its writer is done.
WHOLE = [".lock", "catalogue", "index", "manifest.json"]


def files(folder):
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def loop(folder):
    version = 0
    while True:
        version += 1
        build(folder, version)


def die(folder, step):
    steps = 0

    def count(event, arguments):
        nonlocal steps
        kinds = ("open", "os.rename", "os.remove", "os.mkdir")
        if event in kinds and str(arguments[0]).startswith(folder):
            steps += 1
            if steps == int(step):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    build(folder, 2)


def state(version):
    """The texts by id after so many changes: each adds ten, replaces five and removes five."""
    found = {row["sku"]: row["text"] for row in table(0)}
    for done in range(1, version + 1):
        found |= {row["sku"]: row["text"] for row in changes(done)}
        for name in removed(done):
            del found[name]
    return found


def changes(version):
    """Ten rows that are new with a version, and five that replace those of the last one."""
    names = [f"v{version}-{n}" for n in range(10)]
    if version > 1:
        names += [f"v{version - 1}-{n}" for n in range(5)]
    return [{"sku": name, "text": f"{version}/{name}", "version": version} for name in names]


def removed(version):
    return [f"v{version - 1}-{n}" for n in range(5, 10)] if version > 1 else []


def change(folder, times):
    """Upserts and removals are two commits; every third time all is compacted as well."""
    from msiam.gallery.gallery import Gallery

    gallery = Gallery.open(folder, Toy())
    for _ in range(int(times)):
        tables = [record["version"] for _, record in gallery.records(np.arange(len(gallery)))]
        version = max(tables) + 1
        # One that was killed between both commits has its removals still to do.
        gallery.remove(removed(version - 1), missing_ok=True)
        gallery.upsert(changes(version))
        gallery.remove(removed(version))
        if version % 3 == 0:
            gallery.compact()


def wait(folder):
    from msiam.gallery.gallery import Gallery

    Gallery.open(folder).remove(["s0"], wait=True)


def serve():
    import tempfile

    # All that a build imports is imported here once, for every process.
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "first", 0)
    forked.serve({"loop": loop, "die": die, "change": change, "wait": wait})


if __name__ == "__main__":
    serve()
