"""A test for each hook: a plugin is written, installed, found, and what it adds is used."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from msiam import Gallery, Model, Tower, open_table
from msiam.errors import PluginError, RecipeError
from msiam.evaluation.measure import build_evaluators
from msiam.losses.base import Targets
from msiam.losses.triplet import Triplet
from msiam.recipe import Data, LossTerm
from msiam.registry import hookspecs, registry
from msiam.registry.conformance import check_backend, check_encoder, check_loss, check_miner
from msiam.registry.options import Term, parse_options
from msiam.training.objective import build_loss

ROOT = Path(__file__).parents[2]
SPECS = [name for name in vars(hookspecs) if name.startswith("msiam_")]

ENCODER = """
    import numpy as np
    import pydantic
    import torch
    from msiam import Encoder, Options, Rejected

    class BirdOptions(Options):
        width: int = pydantic.Field(4, gt=0)

    class Birds(Encoder):
        Options = BirdOptions
        modality = "text"

        def fit(self, items):
            self.letters = torch.nn.EmbeddingBag(256, self.options.width)

        @property
        def dim(self):
            return self.options.width

        @classmethod
        def accepts(cls, item):
            return isinstance(item, str)

        def prepare(self, items):
            return [self.one(item) for item in items]

        def one(self, item):
            if not isinstance(item, str) or not item:
                return Rejected("is no song")
            return np.frombuffer(item.encode(errors="replace"), np.uint8).astype(np.int64)

        def collate(self, features):
            ends = np.cumsum([0] + [len(feature) for feature in features[:-1]])
            return {"letters": torch.from_numpy(np.concatenate(features)),
                    "starts": torch.from_numpy(ends)}

        def forward(self, batch):
            return self.letters(batch["letters"], batch["starts"])
"""

LOSS = """
    import pydantic
    from msiam import Loss, Options

    class DriftOptions(Options):
        power: float = pydantic.Field(2.0, gt=0)

    class Drift(Loss):
        Options = DriftOptions

        def forward(self, embeddings, targets):
            one, other = embeddings.values()
            same = targets.positive(len(one), one.device)
            return ((one - other).pow(self.options.power).sum(1) * same).mean()
"""

MINER = """
    import torch
    from msiam import Miner

    class First(Miner):
        def choose(self, anchors, candidates, anchor_groups, candidate_groups):
            if not len(candidates):
                return torch.full_like(anchor_groups, -1)
            allowed = anchor_groups[:, None] != candidate_groups
            return allowed.int().argmax(dim=1).masked_fill(~allowed.any(dim=1), -1)
"""

BACKEND = """
    import numpy as np
    from msiam import Backend, errors

    def checked(vectors, dim):
        if vectors.ndim != 2 or vectors.shape[1] != dim or not np.isfinite(vectors).all():
            raise errors.GalleryError(f"vectors must be finite, of width {dim}")
        return vectors

    class Nest(Backend):
        exact = True

        def __init__(self, vectors):
            self.vectors = vectors

        @classmethod
        def build(cls, vectors, dim, options):
            chunks = [checked(chunk, dim) for chunk in vectors]
            if not chunks:
                raise errors.GalleryError("no vectors")
            return cls(np.concatenate(chunks))

        @classmethod
        def open(cls, path, options):
            with path.open("rb") as file:
                return cls(np.load(file))

        def save(self, path):
            with path.open("wb") as file:
                np.save(file, self.vectors)

        def search(self, queries, k, among=None):
            if among is not None:
                raise errors.GalleryError("a nest does not search among some positions")
            products = checked(queries, self.dim) @ self.vectors.T
            products = np.pad(products, ((0, 0), (0, max(0, k - len(self)))),
                              constant_values=-np.inf)
            best = np.argsort(-products, axis=1, kind="stable")[:, :k]
            return (np.take_along_axis(products, best, 1).astype(np.float32),
                    np.where(best < len(self), best, -1))

        def __len__(self):
            return len(self.vectors)

        @property
        def dim(self):
            return self.vectors.shape[1]
"""

EVALUATOR = """
    import pydantic
    from msiam import Evaluator, Options, Result

    class CountOptions(Options):
        times: int = pydantic.Field(1, gt=0)

    class Count(Evaluator):
        Options = CountOptions
        primary = "rows"

        def evaluate(self, embedded, calibration):
            return Result({"rows": float(len(embedded.examples) * self.options.times)})
"""


def hooks(hook: str, call: str) -> str:
    """The source of a plugin that calls ``register`` in one hook."""
    return f"from msiam import hookimpl\n\n@hookimpl\ndef {hook}(register):\n    register({call})\n"


class Letters:
    """What a gallery asks of a model: texts to vectors, by their letters."""

    def __init__(self):
        self.columns = {"name": "text"}

    def embed(self, column, items, root=None, progress=None, how=None):
        rows = [np.bincount(list(item.encode()), minlength=256) for item in items]
        return np.array(rows, np.float32), []

    def column_for(self, query, but=None):
        return "name"

    def fingerprint(self):
        return "letters"


# ---- The hooks


def test_msiam_encoders(install):
    call = '"birds", "birds:Birds", modality="text", preset={"width": 6}, summary="songs"'
    install("msiam_birds", hooks("msiam_encoders", call), birds=ENCODER)
    spec = registry().find("encoder", "birds")
    assert (spec.plugin, spec.summary, spec.facts["modality"]) == ("msiam_birds", "songs", "text")
    tower = Tower("birds", dim=3)
    tower.fit(["tweet"])
    assert tower.encoder.dim == 6  # the preset
    assert Tower("birds", dim=3, width=5).encoder.options.width == 5  # what the recipe says, first
    batch = tower.encoder.collate(tower.encoder.prepare(["tweet", "chirp chirp"]))
    assert tower(batch).shape == (2, 3)
    check_encoder(spec.load(), {"width": 6}, ["tweet", "chirp chirp", "кукушка"])


def test_msiam_losses(install):
    install("msiam_birds", hooks("msiam_losses", '"drift", "drift:Drift"'), drift=LOSS)
    model = Model({"t": Tower("lstm", dim=3)}, {"a": "t", "b": "t"})
    loss = build_loss([LossTerm(name="drift", weight=3.0, power=2.0)], model, targets=())
    vectors = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 2.0]])}
    groups = dict.fromkeys(vectors, torch.zeros(1, dtype=torch.int64))
    assert loss(vectors, Targets(groups)).item() == pytest.approx(15.0)
    check_loss(registry().find("loss", "drift").load())


def test_msiam_miners(install):
    install("msiam_birds", hooks("msiam_miners", '"first", "first_miner:First"'), first_miner=MINER)
    triplet = Triplet(parse_options(Triplet, {"miner": "first", "margin": 1.0}, "loss"))
    assert type(triplet.miner).__name__ == "First"
    check_miner(registry().find("miner", "first").load())


def test_msiam_sources(install, tmp_path):
    reader = """
        import datasets

        def read(path):
            return datasets.Dataset.from_dict({"song": path.read_text().split("|")})
    """
    call = '"songs", "songs:read", suffixes=(".songs",)'
    install("msiam_birds", hooks("msiam_sources", call), songs=reader)
    (tmp_path / "night.songs").write_text("tweet|chirp|coo")
    table = open_table(tmp_path / "night.songs")
    assert table.dataset["song"][:] == ["tweet", "chirp", "coo"]


def test_msiam_sources_that_make_their_rows(install):
    maker = """
        import datasets
        from msiam import Options

        class Songs:
            class Options(Options):
                times: int

            def __init__(self, options):
                self.options = options

            def read(self):
                return datasets.Dataset.from_dict({"song": ["tweet"] * self.options.times})
    """
    install(
        "msiam_birds", hooks("msiam_sources", '"songs", "songs:Songs", suffixes=()'), songs=maker
    )
    table = Data.model_validate({"table": {"name": "songs", "times": 3}}).table
    opened = open_table(table)
    assert opened.dataset["song"][:] == ["tweet"] * 3 and opened.name == "songs"
    with pytest.raises(
        RecipeError, match=r"data.table \(songs\): tims: no such key; did you mean 'tim"
    ):
        open_table(Term(name="songs", tims=3))
    with pytest.raises(RecipeError, match=r"csv takes no options, and reads files \(.csv, .tsv\)"):
        open_table(Term(name="csv", tims=3))
    with pytest.raises(
        PluginError, match=r"data.table.name: no source 'song'; did you mean 'songs'"
    ):
        open_table(Term(name="song"))


def test_msiam_backends(install, tmp_path):
    install("msiam_birds", hooks("msiam_backends", '"nest", "nest:Nest"'), nest=BACKEND)
    rows = [{"name": name} for name in ("robin", "wren", "owl")]
    gallery = Gallery.build(Letters(), rows, "name", tmp_path / "gallery", backend="nest")
    assert gallery.manifest.backend == "nest"
    assert gallery.search("wrenn", k=1)[0].id == "1"
    check_backend(registry().find("backend", "nest").load())


def test_msiam_evaluators(install):
    install("msiam_birds", hooks("msiam_evaluators", '"count", "count:Count"'), count=EVALUATOR)
    found = build_evaluators([Term(name="count", times=2)])["count"]

    class Held:
        examples = range(7)

    assert found.evaluate(Held(), None).metrics == {"rows": 14.0}


def test_msiam_commands(install, process):
    plugin = """
        from msiam import hookimpl

        @hookimpl
        def msiam_commands(cli):
            @cli.command()
            def count_birds(place: str) -> None:
                "Count the birds of a place."
                print(f"7 birds in {place}")
    """
    install("msiam_birds", plugin)
    run = "from msiam.cli import main; main()"
    done = process("-c", run, "count-birds", "Delft")
    assert (done.stdout, done.returncode) == ("7 birds in Delft\n", 0), done.stderr
    assert "Count the birds of a place." in process("-c", run, "--help").stdout


# ---- Hooks, tests and documentation hold together


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_has_a_test_named_for_it(hook):
    assert callable(globals()[f"test_{hook}"])


def signature(function: ast.FunctionDef) -> str:
    """``name(arguments) -> result`` as the source has it, without ``self``."""
    function.args.args = [a for a in function.args.args if a.arg != "self"]
    return f"({ast.unparse(function.args)}) -> {ast.unparse(function.returns)}"


def hook_signatures() -> dict[str, list[str]]:
    """Of each hook its own signature, and that of ``register`` where it is given one."""
    tree = ast.parse(Path(hookspecs.__file__).read_text())
    calls = {
        node.name: next(signature(f) for f in node.body if isinstance(f, ast.FunctionDef))
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            kind = ast.unparse(node.args.args[0].annotation)
            register = [f"register{calls[kind]}"] if kind in calls else []
            found[node.name] = [f"def {node.name}{signature(node)}", *register]
    return found


def squeezed(text: str) -> str:
    """Without what differs between one line and several, and between quotes and quotes."""
    return re.sub(r"\s+|,\s*(?=\))", "", text).replace("'", '"')


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_has_a_section_that_quotes_its_signature(hook):
    parts = re.split(
        r"^## `(\w+)`$", (ROOT / "docs" / "plugins.md").read_text(), flags=re.MULTILINE
    )
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    for quoted in hook_signatures()[hook]:
        assert squeezed(quoted) in squeezed(sections[hook])
    assert hook_signatures().keys() == set(SPECS) == set(sections)
