"""A model: a set of towers and a map from columns to towers. Save and load."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from msiam.errors import DataError, ModelError, RecipeError, one_of
from msiam.paths import is_file
from msiam.towers import storage
from msiam.towers.embedding import Progress, embed_items
from msiam.towers.encoder import Batch, Encoder, add_weights
from msiam.towers.follower import Follower, follower
from msiam.towers.inference import EXACT, How, Precision
from msiam.towers.tower import Tower

_NAME = re.compile(r"\w[\w-]*")


def tower_name(like: str) -> str:
    """The name itself where a tower may have it, or else one like it that it may have.

    Towers are modules of a ``ModuleDict``, which takes no name that it has an attribute of.
    """
    if _NAME.fullmatch(like) and not hasattr(nn.ModuleDict(), like):
        return like
    return re.sub(r"\W", "_", like) + "_tower"


class Model(nn.Module):
    """Towers, and which column goes through which.

    Two columns on one tower are a siamese network, two columns with a tower each a
    pseudo-siamese one, three columns on one tower a triplet network; one tower that follows another
    by moving average is momentum contrast.

    Args:
        towers: each a ``Tower``, or its keys as a recipe has them: those of an encoder, or
            ``{"follows": "image", "momentum": 0.999}``.
        columns: the names of the model's inputs, in order, each with its tower's name.

    Raises:
        RecipeError: a column on a tower that is not there, a tower without a column, towers whose
            embeddings differ in width, a tower whose name cannot be used, one that follows none
            or one that follows itself.
    """

    def __init__(
        self, towers: Mapping[str, Tower | Mapping[str, Any]], columns: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleDict()
        for name in towers:
            if (instead := tower_name(name)) != name:
                raise RecipeError(
                    f"towers.{name}: a tower's name has letters, digits, _ and -, and is no word "
                    f"that torch has taken; for example {instead}"
                )
        built = _built(towers)
        for column, name in columns.items():
            if name not in built:
                raise RecipeError(f"columns.{column}: no tower '{name}'; {one_of(name, built)}")
        for name in built:
            if name not in columns.values():
                raise RecipeError(f"towers.{name}: no column goes through it; name it in columns")
        widths = {name: tower.dim for name, tower in built.items()}
        if len(set(widths.values())) > 1:
            raise RecipeError(
                f"towers: embeddings must have one width to be compared; dim is {widths}"
            )
        self.towers.update(built)
        self.columns = dict(columns)

    def tower(self, name: str) -> Tower:
        """The tower of that name."""
        found = self.towers[name]
        assert isinstance(found, Tower)
        return found

    def tower_of(self, column: str) -> Tower:
        """The tower that reads a column.

        Raises:
            DataError: the model has no such column.
        """
        if column not in self.columns:
            raise DataError(f"the model has no column '{column}'; {one_of(column, self.columns)}")
        return self.tower(self.columns[column])

    @property
    def numbering(self) -> dict[str, str]:
        """Column -> the tower whose items its items are: a follower's are those of its leader."""
        return {column: self.leader(name) for column, name in self.columns.items()}

    @property
    def leaders(self) -> list[str]:
        """The towers that follow no other."""
        return [name for name in self.towers if self.leader(name) == name]

    def leader(self, name: str) -> str:
        """The tower that one follows, or the one itself."""
        tower = self.tower(name)
        return tower.following.follows if isinstance(tower, Follower) else name

    def follow(self) -> None:
        """Let the towers that follow others move after them; once a step of the optimiser."""
        for tower in self.towers.values():
            if isinstance(tower, Follower):
                tower.step()

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoder of each tower."""
        return {name: self.tower(name).encoder for name in self.towers}

    @property
    def dim(self) -> int:
        return self.tower_of(next(iter(self.columns))).dim

    def forward(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Batches by tower to embeddings by tower, (items, dim)."""
        return {name: self.towers[name](batch) for name, batch in batches.items()}

    def embed(
        self,
        column: str,
        items: Sequence[Any],
        root: Path | None = None,
        progress: Progress | None = None,
        how: How = EXACT,
    ) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Embed what can be read: (m, dim) float32, and each other item's number and reason.

        Raises:
            DataError: one item instead of a list of items, or the model has no such column.
            ModelError: the model has no weights yet.
        """
        tower = self.tower_of(column)
        if not tower.ready:
            raise ModelError(
                "the model has no weights yet; train it, load one with msiam.load, or take "
                "pretrained encoders as they are with model.tower(NAME).fit([])"
            )
        if isinstance(items, str | bytes):
            raise DataError(
                f"column '{column}': found one item, {items!r:.80}; give a list of items"
            )
        return embed_items(tower, items, root, progress, how)

    def encode(
        self,
        columns: Mapping[str, Sequence[Any]],
        batch_size: int | None = None,
        precision: Precision = "fp32",
        optimize: bool = True,
    ) -> dict[str, np.ndarray]:
        """Embed items by column: ``model.encode({"caption": ["a red heart"]})["caption"]``.

        Args:
            batch_size, precision, optimize: see :class:`msiam.towers.inference.How`.

        Returns:
            For each column, (n, dim) float32 in the order of its items.

        Raises:
            DataError: an item cannot be read, or the model has no such column.
            ModelError: the model has no weights yet.
        """
        if not isinstance(columns, Mapping):
            raise DataError(
                f"encode takes items by column, as in {{'{next(iter(self.columns))}': [...]}}; "
                f"found {type(columns).__name__}"
            )
        how = How(batch_size, precision, optimize)
        vectors = {}
        for column, items in columns.items():
            vectors[column], rejected = self.embed(column, items, how=how)
            if rejected:
                number, reason = rejected[0]
                raise DataError(f"column '{column}', item {number}: {reason}")
        return vectors

    def column_for(self, query: Any, but: str | None = None) -> str:
        """The column that reads a query; ``but`` is taken only where no other reads it.

        A file's name goes to a tower that reads files. A text with a blank in it may end like one
        ("what is .gif"), and then is one only if there is such a file, or nothing reads texts. One
        without blanks is taken at its word, so that a name that is mistyped is no search for it.

        Raises:
            DataError: no tower reads it.
        """
        fitting = [c for c in self.columns if self.tower_of(c).encoder.accepts(query)]
        if not fitting:
            reads = {c: self.tower_of(c).encoder.modality for c in self.columns}
            raise DataError(f"no column reads {query!r:.80}; the model reads {reads}")
        files = [c for c in fitting if self.tower_of(c).encoder.reads_files]
        others = [c for c in fitting if c not in files]
        doubtful = isinstance(query, str) and len(query.split()) > 1 and not is_file(query)
        choices = (others or files) if doubtful else (files or others)
        return next((c for c in choices if c != but), choices[0])

    @property
    def ready(self) -> bool:
        return all(self.tower(name).ready for name in self.towers)

    def fingerprint(self) -> str:
        """Changes whenever an embedding would change."""
        digest = hashlib.sha256(f"{sorted(self.columns.items())}\n".encode())
        for name in sorted(self.towers):
            tower = self.tower(name)
            digest.update(f"{name} {tower.options!r} {tower.encoder.fingerprint()}\n".encode())
            if tower.head is not None:
                add_weights(digest, tower.head)
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """Towers and columns as a recipe has them."""
        towers = {name: self.tower(name).describe() for name in self.towers}
        return {"towers": towers, "columns": self.columns}

    def save(self, folder: str | Path) -> Path:
        """Write the model: JSON, safetensors and the encoders' own files, with checksums.

        Raises:
            ModelError: the folder holds something that is no model; there are no weights yet.
            RunError: the disk is full. What was there before is left whole.
        """

        def write(draft: Path) -> None:
            for name in self.towers:
                place = draft / "towers" / name
                place.mkdir(parents=True)
                self.tower(name).encoder.save(place)

        if not self.ready:
            raise ModelError(f"{folder}: the model has no weights to save before it is trained")
        storage.save(Path(folder), self.describe(), self, write)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """Read a model that ``save`` wrote.

        Raises:
            ModelError: a file is missing, changed, or a pickle.
            PluginError: no plugin brings one of its encoders.
        """
        folder = storage.whole(Path(folder))
        description = storage.describe(folder)
        model = cls(description["towers"], description["columns"])
        model._take(folder)
        return model.eval()

    def restore(self, folder: Path) -> None:
        """Take the weights, and all else that was learnt, of a model of the same towers.

        Raises:
            ModelError: a file is missing, changed, or a pickle.
        """
        folder = storage.whole(folder)
        storage.describe(folder)  # checks all files
        self._take(folder)

    def _take(self, folder: Path) -> None:
        for name in self.towers:
            self.tower(name).restore(folder / "towers" / name)
        storage.load_weights(folder, self)


def _built(towers: Mapping[str, Tower | Mapping[str, Any]]) -> dict[str, Tower]:
    """The towers by name; those that follow others come to life after those."""
    named = [
        name for name, tower in towers.items() if isinstance(tower, Tower) or "encoder" in tower
    ]
    leaders = {
        name: tower if isinstance(tower, Tower) else _build(name, tower, named)
        for name, tower in towers.items()
        if isinstance(tower, Tower) or "follows" not in tower
    }
    return {
        name: leaders.get(name) or follower(f"towers.{name}", keys, leaders)
        for name, keys in towers.items()
    }


def _build(name: str, keys: Mapping[str, Any], named: Sequence[str]) -> Tower:
    where = f"towers.{name}"
    if "encoder" not in keys:
        instead = f"; or give its columns a tower that has one: {', '.join(named)}" if named else ""
        raise RecipeError(
            f"{where}.encoder: is missing; name an encoder, see msiam plugins{instead}"
        )
    return Tower(keys["encoder"], where, **{k: v for k, v in keys.items() if k != "encoder"})
