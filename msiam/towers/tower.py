"""A tower: an encoder, a projection head, a norm."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pydantic
from torch import Tensor, nn

from msiam.errors import ModelError, RecipeError
from msiam.registry import registry
from msiam.registry.options import Options, explain, parse_options
from msiam.towers.encoder import Batch, Encoder
from msiam.towers.first_layers import STATES, freeze_first, run_rest
from msiam.towers.frozen import Frozen
from msiam.towers.heads import HeadKind, build_head


class TowerOptions(Options):
    """A tower's own keys. In a recipe, every other key of a tower belongs to its encoder."""

    encoder: str = pydantic.Field(description="a registered encoder; see msiam plugins")
    dim: int = pydantic.Field(256, gt=0, description="width of the embedding")
    head: HeadKind = "linear"
    normalize: bool = pydantic.Field(True, description="embeddings of length 1")
    learning_rate: float | None = pydantic.Field(
        None, gt=0, description="of the encoder, where it differs from the rest (pretrained ones)"
    )
    init: str | None = pydantic.Field(
        None,
        description="a run's or a model's folder: the encoder begins as that of its tower of this "
        "name, whatever the head",
    )
    freeze: bool | int = pydantic.Field(
        False,
        description="true: the encoder does not learn, and is run once an item; the head does. "
        "A number: so many of its first layers do not learn, and run once an item where they can",
    )

    @pydantic.field_validator("freeze", mode="before")
    @classmethod
    def _all_or_some(cls, value: object) -> object:
        if isinstance(value, bool) or (isinstance(value, int) and value > 0):
            return value
        raise ValueError("give true, false, or how many of the first layers, at least 1")

    @pydantic.model_validator(mode="after")
    def _frozen_has_no_rate(self) -> TowerOptions:
        if self.freeze is True and self.learning_rate is not None:
            raise ValueError("a frozen encoder has no `learning_rate`: leave it out, or `freeze`")
        return self


class Tower(nn.Module):
    """Items of one modality in, embeddings (B, dim) out.

    ``Tower("lstm", dim=256, hidden=128)``: the tower's own options by name, all others go to the
    encoder. It has no weights before ``fit`` or ``restore``.

    Raises:
        PluginError: no plugin brings that encoder, or it does not import.
        RecipeError: an unknown option, or one of the wrong kind.
    """

    def __init__(self, encoder: str, where: str = "", /, **options: Any) -> None:
        super().__init__()
        self._where = where
        own = {k: v for k, v in options.items() if k in TowerOptions.model_fields}
        others = {k: v for k, v in options.items() if k not in own}
        try:
            self.options = TowerOptions(encoder=encoder, **own)
        except pydantic.ValidationError as error:
            raise RecipeError(explain(error, TowerOptions, where)) from error
        spec = registry().find("encoder", encoder, where)
        cls: type[Encoder] = spec.load()
        given = {**(spec.facts.get("preset") or {}), **others}
        place = f"{where} ({encoder})" if where else encoder
        built = cls(parse_options(cls, given, place, beside=TowerOptions.model_fields))
        self.encoder: Encoder = Frozen(built) if self.options.freeze is True else built
        self._evaluating: list[nn.Module] = []
        self.head: nn.Module | None = None

    def fit(self, items: Iterable[Any]) -> None:
        """Let the encoder learn what it needs from the training items, and build all weights."""
        self.encoder.fit(items)
        self._complete()

    def restore(self, folder: Path) -> None:
        """Build all weights, values unset, from what the encoder once saved."""
        self.encoder.restore(folder)
        self._complete()

    def take_encoder(self, other: Tower) -> None:
        """Begin with a copy of another tower's encoder, which has weights; the head is new.

        Raises:
            RuntimeError: they are not alike.
        """
        with tempfile.TemporaryDirectory() as folder:
            other.encoder.save(Path(folder))
            self.restore(Path(folder))
        _inside(self.encoder).load_state_dict(_inside(other.encoder).state_dict())

    def _complete(self) -> None:
        """Freeze what is not to learn, and build the head: both take an encoder with weights."""
        if self.frozen:
            where = self._key("freeze")
            self._evaluating = freeze_first(self.encoder, self.frozen, self.options.encoder, where)
            self.train(self.training)
        where = self._key("head")
        self.head = build_head(self.options.head, self.encoder.dim, self.options.dim, where)

    def _key(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def train(self, mode: bool = True) -> Self:
        """Layers that are frozen evaluate in training, too."""
        super().train(mode)
        for module in self._evaluating:
            module.training = False
        return self

    @property
    def frozen(self) -> int:
        """How many of the encoder's first layers do not learn, where others do."""
        count = self.options.freeze
        return 0 if isinstance(count, bool) else count

    @property
    def ready(self) -> bool:
        return self.head is not None

    @property
    def dim(self) -> int:
        return self.options.dim

    def forward(self, batch: Batch) -> Tensor:
        """A batch of B items, or of their states behind frozen layers, to embeddings, (B, dim)."""
        if self.head is None:
            raise ModelError("a tower has no weights before it is trained or loaded")
        rest = STATES in batch
        vectors = run_rest(self.encoder, batch, self.frozen) if rest else self.encoder(batch)
        embedding = self.head(vectors)
        if self.options.normalize:
            # In float32: at a temperature of 0.01, bf16 similarities are too coarse.
            embedding = nn.functional.normalize(embedding.float(), dim=1)
        return embedding

    def describe(self) -> dict[str, Any]:
        """The keys that make this tower again, as a recipe has them.

        All of them, since the defaults of another version may be others.
        """
        return self.options.model_dump(exclude_none=True) | self.encoder.options.model_dump(
            mode="json"
        )

    @property
    def summary(self) -> str:
        """What it is, in a word or two."""
        return self.options.encoder

    def parameter_count(self, trained: bool = False) -> int:
        """How many numbers the tower holds, or how many of them training may change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trained)


def _inside(encoder: Encoder) -> Encoder:
    return encoder.encoder if isinstance(encoder, Frozen) else encoder
