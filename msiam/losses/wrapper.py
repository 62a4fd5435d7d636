"""What losses share that are made around another one."""

from __future__ import annotations

from typing import Any, ClassVar

import pydantic
from torch import Tensor, nn

from msiam.errors import RecipeError
from msiam.losses.base import Given, Loss, each
from msiam.recipe import LossTerm
from msiam.registry import registry
from msiam.registry.options import Options, parse_options

#: What a loss declares of itself, and a wrapper passes on.
DECLARED = ("columns", "more", "needs", "euclidean", "gathers")


class WrapperOptions(Options):
    loss: LossTerm = pydantic.Field(
        LossTerm(name="infonce"), description="its name, or {name: …} with its options"
    )


class Wrapper(Loss):
    """A loss around another, which says what both of them take.

    Raises:
        PluginError: no such inner loss.
        RecipeError: the inner loss has no such option.
    """

    Options = WrapperOptions
    #: Its place in a recipe, for messages.
    where: ClassVar[str]

    def __init__(self, options: Any, copies: int = 1) -> None:
        super().__init__(options)
        term = options.loss
        cls = registry().find("loss", term.name, f"{self.where}.loss.name").load()
        inner = parse_options(cls, term.options, f"{self.where}.loss ({term.name})")
        losses = [cls(inner) for _ in range(copies)]
        self.losses = nn.ModuleList(losses)
        for what in DECLARED:
            setattr(self, what, getattr(self.inner, what))

    @property
    def inner(self) -> Loss:
        """The loss inside, or the first of its copies."""
        return each(self.losses)[0]

    def check(self, name: str, given: Given) -> None:
        """Whether the inner loss fits what it will be given.

        Raises:
            RecipeError: it does not.
        """
        try:
            self.inner.check(self.options.loss.name, given)
        except RecipeError as error:
            raise RecipeError(str(error).replace("loss", f"{self.where}.loss", 1)) from error

    def in_batch(self, columns: int) -> bool:
        return self.inner.in_batch(columns)

    def shares(self, columns: int) -> bool:
        return self.inner.shares(columns)

    def begin(self, groups: Tensor, dim: int) -> None:
        self.inner.begin(groups, dim)

    def lasts(self, steps: int) -> None:
        for loss in each(self.losses):
            loss.lasts(steps)
