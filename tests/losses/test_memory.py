from __future__ import annotations

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import PluginError, RecipeError
from msiam.losses.base import Given, Targets, WeightedSum
from msiam.losses.matryoshka import Matryoshka
from msiam.losses.memory import Memory
from msiam.registry import registry
from msiam.registry.conformance import check_loss
from msiam.registry.options import parse_options

#: Every loss of the core that compares the rows of a batch, and with how many columns.
INNER = [
    ("infonce", 2),
    ("sigmoid", 2),
    *((name, columns) for name in ("supcon", "multi_similarity", "circle") for columns in (1, 2)),
    *(({"name": name, "pool": True}, 2) for name in ("supcon", "multi_similarity", "circle")),
    ("batch_contrastive", 1),
    ("batch_contrastive", 2),
    *(({"name": "triplet", "miner": m}, columns) for m in ("hard", "all") for columns in (1, 2)),
    ({"name": "tuple", "in_batch": True}, 3),
    ({"name": "matryoshka", "loss": "supcon", "dims": [6, 3]}, 2),
]


def batch(columns, rows, seed, labelled=False, width=6):
    """Random vectors; some rows of one group, also of other batches."""
    random = torch.Generator().manual_seed(seed)

    def unit():
        drawn = torch.randn(rows, width, generator=random, dtype=torch.float64)
        return torch.nn.functional.normalize(drawn, dim=1)

    own = torch.randint(9, (rows,), generator=random)
    same = torch.rand(rows, generator=random) < 0.7 if labelled else None
    groups = {}
    for place, column in enumerate("abcd"[:columns]):
        groups[column] = own + 100 * max(0, place - 1)
        if column == "b" and same is not None:
            groups[column] = own.where(same, 1000 * seed + torch.arange(rows))
    return {column: unit() for column in groups}, Targets(groups, same)


def below(vectors, targets, earlier, size):
    """A batch, and the last rows of the earlier ones, put together by hand."""
    rows = len(next(iter(vectors.values())))
    past = sum(len(t.groups["a"]) for _, t in earlier)
    kept = min(past, size)

    def with_past(now, of):
        old = torch.cat([of(*one) for one in earlier]) if earlier else now[:0]
        return torch.cat([now, old.detach()[past - kept :]])

    both = {c: with_past(v, lambda old, _, c=c: old[c]) for c, v in vectors.items()}
    groups = {c: with_past(g, lambda _, t, c=c: t.groups[c]) for c, g in targets.groups.items()}
    same = None if targets.same is None else with_past(targets.same, lambda _, t: t.same)
    anchors = torch.arange(rows + kept) < rows
    return both, Targets(groups, same, anchors=anchors)


@pytest.fixture
def inner():
    def inner(term):
        term = dict(term) if isinstance(term, dict) else {"name": term}
        cls = registry().find("loss", term.pop("name")).load()
        return cls(parse_options(cls, term, "loss"))

    return inner


def test_every_loss_that_compares_rows_is_among_these():
    losses = {spec.name: spec.load() for spec in registry().specs("loss")}
    compare = {
        (name, columns)
        for name, cls in losses.items()
        for columns in cls.columns
        if cls(parse_options(cls, {}, "loss")).in_batch(columns)
    }
    assert compare <= {
        (term if isinstance(term, str) else term["name"], columns) for term, columns in INNER
    }


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(("term", "columns"), INNER, ids=str)
def test_it_is_the_inner_loss_on_batch_and_memory(
    make, inner, term, columns, labelled, value_and_gradients
):
    """Batches of several lengths, one longer than the memory, a size that none divides."""
    memory, plain = make(Memory, loss=term, size=11, start=0), inner(term)
    earlier = []
    for seed, rows in enumerate([4, 3, 5, 13, 2, 4]):
        vectors, targets = batch(columns, rows, seed, labelled)
        given = list(vectors.values())

        def run(*v, vectors=vectors, targets=targets):
            return memory(dict(zip(vectors, v, strict=True)), targets)

        def right(*v, vectors=vectors, targets=targets):
            if not earlier:
                return plain(dict(zip(vectors, v, strict=True)), targets)
            return plain(*below(dict(zip(vectors, v, strict=True)), targets, earlier, 11))

        # A ring keeps the rows in another order, so that sums are rounded otherwise.
        expected = value_and_gradients(right, *given)
        torch.testing.assert_close(value_and_gradients(run, *given), expected)
        earlier.append((vectors, targets))


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    size=st.integers(1, 12),
    columns=st.integers(1, 2),
)
def test_the_ring_holds_the_latest_rows(sizes, size, columns):
    memory = Memory(parse_options(Memory, {"loss": "supcon", "size": size}, "loss"))
    vectors = []
    for seed, rows in enumerate(sizes):
        given, targets = batch(columns, rows, seed)
        memory(given, targets)
        vectors.append(torch.stack(list(given.values()), dim=1))
    right = torch.cat(vectors)[-size:]
    kept = memory.vectors[: len(right)]
    assert memory.vectors.shape == (size, columns, 6)
    assert sorted(kept.flatten(1).tolist()) == sorted(right.flatten(1).tolist())


def test_by_hand(make):
    """One anchor, which meets its own positive, and then what it met before as well."""
    memory = make(Memory, loss={"name": "supcon", "temperature": 1.0}, size=2, start=0)
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])

    def row(group):
        return Targets({name: torch.tensor([group]) for name in "ab"})

    assert memory({"a": a, "b": b}, row(1)).item() == pytest.approx(0, abs=1e-6)
    # A negative at 0.8 for a (b of before) and one at 0.6 for b (a of before).
    second = memory({"a": b, "b": a}, row(2)).item()
    s, of_a, of_b = torch.tensor([0.6, 1.0, 1.0])
    one = torch.stack([s, of_a]).logsumexp(0) - s  # b · b of before is 1
    other = torch.stack([s, of_b]).logsumexp(0) - s  # a · a of before is 1
    assert second == pytest.approx((one + other).item() / 2)


def test_infonce_an_anchor_at_a_time(make, unit):
    """MoCo's direction alone. Of the four rows in memory, those of the anchor's group are left out,
    the very same item among them."""
    inner = {"name": "infonce", "temperature": 0.2, "directions": "first"}
    memory = make(Memory, loss=inner, size=4, start=0)
    old, new = unit(4), unit(2, seed=1)
    before, now = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 3])
    memory({"a": unit(4, seed=2), "b": old}, Targets({"a": before, "b": before}))
    a = unit(2, seed=3)
    found = memory({"a": a, "b": new}, Targets({"a": now, "b": now}))
    costs = []
    for i in range(2):
        s = [a[i] @ new[j] for j in range(2)]
        s += [a[i] @ old[j] for j in range(4) if before[j] != now[i]]
        costs.append((torch.stack(s) / 0.2).logsumexp(0) - s[i] / 0.2)
    torch.testing.assert_close(found.double(), (costs[0] + costs[1]) / 2)


def test_no_gradient_goes_back_to_earlier_batches(make):
    memory = make(Memory, loss="supcon", start=0)
    first, targets = batch(2, 4, 0)
    first = {c: v.requires_grad_() for c, v in first.items()}
    memory(first, targets)
    assert not memory.vectors.requires_grad
    memory(*batch(2, 4, 1))
    second, targets = batch(2, 4, 2)
    memory({c: v.requires_grad_() for c, v in second.items()}, targets).backward()
    assert all(v.grad is None for v in first.values())
    assert all(v.grad.any() for v in second.values())


@pytest.mark.parametrize(
    ("start", "steps", "without"), [(0, 10, 1), (0.3, 10, 3), (4, 100, 4), (0.3, None, 1)]
)
def test_the_first_steps_go_without_and_fill_it(make, start, steps, without):
    memory = make(Memory, loss="supcon", size=64, start=start)
    if steps is not None:
        WeightedSum([memory], [1.0]).lasts(steps)
    used = []
    forward = memory.inner.forward
    memory.inner.forward = lambda e, t: used.append(len(e["a"])) or forward(e, t)
    for seed in range(6):
        memory(*batch(2, 3, seed))
    assert used == [3 if seed < without else 3 + 3 * seed for seed in range(6)]


def test_in_evaluation_it_stays_as_it_is(make):
    memory = make(Memory, loss="supcon", start=0)
    memory(*batch(2, 4, 0))
    before = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    memory.eval()
    memory(*batch(2, 4, 1))
    after = memory.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_it_goes_on_from_a_checkpoint_bit_for_bit(make, tmp_path):
    options = {"loss": {"name": "infonce"}, "size": 7, "start": 2}
    memory = make(Memory, **options)
    for seed in range(3):
        memory(*batch(2, 4, seed, labelled=True))
    safetensors.torch.save_file(memory.state_dict(), tmp_path / "state.safetensors")
    again = make(Memory, **options)
    again(*batch(2, 9, 8))  # what it held before is gone
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "state.safetensors"))
    for seed in (4, 5):
        given = batch(2, 4, seed, labelled=True)
        assert torch.equal(again(*given), memory(*given))
    fresh = make(Memory, **options)
    again.load_state_dict(fresh.state_dict())
    assert again.vectors is None and again.rows == 0


def test_in_bf16_it_keeps_what_the_first_batch_was(make):
    memory = make(Memory, loss="supcon", start=0)
    for seed in range(2):
        vectors, targets = batch(2, 4, seed)
        value = memory({c: v.bfloat16() for c, v in vectors.items()}, targets)
    assert memory.vectors.dtype == torch.bfloat16 and value.isfinite()
    assert memory({c: v.float() for c, v in vectors.items()}, targets).dtype == torch.float32


@pytest.mark.parametrize(
    ("term", "columns", "targets"),
    [
        ("contrastive", 2, ["labels"]),
        ("online_contrastive", 2, ["labels"]),
        ("cosine_embedding", 2, ["labels"]),
        ("cosent", 2, ["labels", "scores"]),
        ("triplet", 3, []),
        ("quadruplet", 4, []),
        ("tuple", 3, []),
        ("memory", 2, []),
        ({"name": "matryoshka", "loss": "contrastive"}, 2, ["labels"]),
    ],
)
def test_a_loss_that_compares_no_rows_is_refused(make, term, columns, targets):
    name = term if isinstance(term, str) else term["name"]
    with pytest.raises(RecipeError) as raised:
        make(Memory, loss=term).check("memory", Given(list("abcd"[:columns]), targets, 8))
    where = "loss (memory).loss.name"
    assert str(raised.value).startswith(
        f"{where}: {name} of {columns} columns compares no row with the others"
    )


def test_an_inner_loss_that_does_not_fit(make):
    with pytest.raises(RecipeError, match=r"^loss \(memory\)\.loss\.name: infonce takes 2 columns"):
        make(Memory).check("memory", Given(["a"], [], 8))
    with pytest.raises(PluginError, match=r"loss \(memory\)\.loss\.name: no loss 'infonec'"):
        make(Memory, loss="infonec")
    with pytest.raises(
        RecipeError, match=r"loss \(memory\)\.loss \(infonce\): temperatur: no such"
    ):
        make(Memory, loss={"name": "infonce", "temperatur": 1})
    with pytest.raises(RecipeError, match="size: found 0"):
        make(Memory, size=0)


def test_it_fits_where_the_inner_loss_does(make):
    for term, columns in INNER:
        make(Memory, loss=term).check("memory", Given("abc"[:columns], [], 8))
    twice = make(Matryoshka, loss="memory")
    twice.check("memory", Given("ab", [], 8))
    assert {type(loss) for loss in twice.losses} == {Memory}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": 0, "size": 10, "loss": "supcon"},
        {"start": 0, "loss": {"name": "triplet", "miner": "all"}},
    ],
)
def test_it_keeps_the_contract_of_losses(options):
    check_loss(Memory, options)
