import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from msiam.towers.encoding import batches


@given(
    costs=st.lists(st.integers(0, 50), max_size=60),
    budget=st.integers(1, 100),
    most=st.none() | st.integers(1, 10),
)
def test_each_feature_is_in_one_batch_that_its_budget_has_room_for(costs, budget, most):
    given_costs = np.array(costs, dtype=np.int64)
    found = list(batches(given_costs, budget, most))
    assert sorted(np.concatenate([[], *found]).tolist()) == list(range(len(costs)))
    for rows in found:
        assert len(rows) <= (most or len(costs))
        assert len(rows) == 1 or len(rows) * given_costs[rows].max() <= budget
    longest = [given_costs[rows].max() for rows in found]
    assert longest == sorted(longest, reverse=True)
