"""The API held to its OpenAPI schema, by requests that schemathesis makes of it."""

from __future__ import annotations

import hypothesis
import pytest

schemathesis = pytest.importorskip("schemathesis")

#: A request that fits the schema may yet name a column that is not there, and one that does not fit
#: may be a text that reads as a number; all else must hold.
SEMANTIC = ["positive_data_acceptance", "negative_data_rejection"]
EXAMPLES = 15


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_every_call_answers_as_the_schema_says(serve, mode):
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    left_out = [check for check in CHECKS.get_all() if check.__name__ in SEMANTIC]
    schema = schemathesis.openapi.from_asgi("/openapi.json", serve(begin=False, hosts=None).app)
    calls = [result.ok() for result in schema.get_all_operations()]
    assert len(calls) == 9

    for call in calls:
        if mode == "NEGATIVE" and not (call.body or call.query):
            continue  # it takes nothing that could be wrong

        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=call.as_strategy(getattr(schemathesis.GenerationMode, mode)))
        def test(case):
            case.call_and_validate(excluded_checks=left_out)

        test()
