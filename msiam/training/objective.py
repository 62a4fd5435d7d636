"""What is optimised: a model and its loss as one module, so that both are in each checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets, WeightedSum
from msiam.recipe import LossTerm
from msiam.registry import registry
from msiam.registry.options import parse_options
from msiam.towers.encoder import Batch
from msiam.towers.model import Model
from msiam.training.adversarial import Adversary
from msiam.training.large_batches import embed_chunks
from msiam.training.processes import global_loss


class Objective(nn.Module):
    """One forward a tower over the step's distinct items, then the loss over the rows.

    With an adversary, a step in training is over the items as it has changed them.
    """

    def __init__(self, model: Model, loss: WeightedSum, adversary: Adversary | None = None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.adversary = adversary

    def forward(
        self,
        batches: Mapping[str, Sequence[Batch]],
        index: Mapping[str, Tensor],
        groups: Mapping[str, Tensor],
        same: Tensor | None = None,
        scores: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """A collated step to its loss. ``rows`` are there to name a step that goes wrong."""
        targets = Targets(dict(groups), same, scores)

        def cost(batches: Mapping[str, Sequence[Batch]]) -> Tensor:
            embeddings = {
                name: embed_chunks(self.model.tower(name), chunks)
                for name, chunks in batches.items()
            }
            towers = self.model.columns  # in the recipe's order, by which losses go
            by_column = {c: embeddings[tower][index[c]] for c, tower in towers.items()}
            return global_loss(self.loss, by_column, targets)

        if self.adversary is not None and self.training:
            self.loss.eval()  # a memory keeps the step itself alone
            batches = self.adversary(batches, cost)
            self.loss.train()
        return {"loss": cost(batches)}


def build_loss(terms: Sequence[LossTerm], model: Model, targets: Collection[str]) -> WeightedSum:
    """A recipe's loss, checked against what it will be given.

    Args:
        targets: what the recipe says of the rows; see ``Given``.

    Raises:
        PluginError: no such loss.
        RecipeError: an unknown option; a loss that does not fit the columns, lacks labels, or
            works on distances where embeddings are not normalised.
    """
    given = Given(list(model.columns), targets, model.dim)
    normalized = all(model.tower(name).options.normalize for name in model.towers)
    losses = []
    for term in terms:
        cls = registry().find("loss", term.name, "loss.name").load()
        loss = cls(parse_options(cls, term.options, f"loss ({term.name})"))
        loss.check(term.name, given)
        if loss.euclidean and not normalized:
            raise RecipeError(
                f"loss.name: {term.name} works on distances, and models are compared by inner "
                "product, which ranks alike only for embeddings of length 1; leave out "
                "normalize: false, or take infonce"
            )
        losses.append(loss)
    if not losses:
        raise RecipeError("loss: names none; see msiam plugins")
    return WeightedSum(losses, [term.weight for term in terms])
