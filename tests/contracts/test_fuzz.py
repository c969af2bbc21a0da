"""Schemathesis plays a careless and a hostile caller of each service's published interface.

Nothing may answer with a 5xx, with a status or a content type that the interface does not document, or with a body that
is not what it documents. Each test prints how many cases each operation got.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from contracts.estimates import TIMEOUT_HEADER
from contracts.feeds import LONGEST_WAIT_S
from tests.contracts import providers
from tests.contracts.providers import Provider

CASES = 25  # random cases an operation, beside the systematic ones
STORIES = 20  # chains of calls in which an answer's trip id feeds the next request
LONGEST_POLL_S = 0.05  # feeds may be asked to wait up to half a minute; the answer is the same
ACCEPTED = ["2xx", "401", "404", "409", "422"]
# What these refuse, no schema can tell: a zone that the map lacks, a report from before its trip's booking, tensors
# that do not fit their shapes.
MORE_THAN_A_SCHEMA_SAYS = {
    "POST /api/quotes": ACCEPTED,
    "POST /api/courier/trips/{trip_id}/reports": ACCEPTED,
    "POST /v2/models/{name}/infer": [*ACCEPTED, "400"],
    "POST /v2/models/{name}/versions/{version}/infer": [*ACCEPTED, "400"],
}


@contextmanager
def callers_of(provider: Provider) -> Iterator[None]:
    """Callers who know some ids, since nobody guesses one, have time for an answer, and do not wait long at a feed."""
    known = {name: cycle([*ids, None]) for name, ids in provider.ids.items()}

    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        for name, ids in known.items():
            if re.fullmatch(r"[A-Za-z0-9_-]+", str(case.path_parameters.get(name, ""))):
                case.path_parameters[name] = next(ids) or case.path_parameters[name]
        asked = (case.query or {}).get("timeout")
        if re.fullmatch(r"[0-9.]+", str(asked)) and 0 < float(asked) <= LONGEST_WAIT_S:
            case.query["timeout"] = LONGEST_POLL_S
        patience = str((case.headers or {}).get(TIMEOUT_HEADER))
        if re.fullmatch(r"[1-9][0-9]{0,2}", patience):  # for whom an answer may come too late, a 503
            case.headers[TIMEOUT_HEADER] = "1000"

    schemathesis.hook(before_call)
    try:
        yield
    finally:
        schemathesis.hooks.unregister(before_call)


def config(provider: Provider) -> schemathesis.Config:
    """The same cases every time; callers hold every token, and schemathesis tries without one, too."""
    return schemathesis.Config.from_dict(
        {
            "base-url": provider.url,
            "request-timeout": 10,
            "continue-on-failure": True,
            "auth": {"openapi": {f"{role} token": {"bearer": token} for role, token in provider.tokens.items()}},
            "generation": {"max-examples": CASES, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"generation": {"max-examples": STORIES}}},
            "operations": [
                {
                    "include-name": operation,
                    "checks": {"positive_data_acceptance": {"expected-statuses": statuses}},
                }
                for operation, statuses in MORE_THAN_A_SCHEMA_SAYS.items()
            ],
        }
    )


def fuzz(provider: Provider) -> tuple[dict[str, Counter[int]], list[str]]:
    """How often each operation was called and with which status it answered; and what went wrong, each fault once."""
    schema = schemathesis.openapi.from_url(f"{provider.url}/openapi.json", config=config(provider))
    answers: defaultdict[str, Counter[int]] = defaultdict(Counter)
    faults: dict[tuple[str, str], str] = {}
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            raise AssertionError(f"schemathesis gave up: {event}") from getattr(event, "value", None)
        if not isinstance(event, events.ScenarioFinished):
            continue
        recorded = event.recorder
        for case_id, node in recorded.cases.items():
            operation = node.value.operation.label
            if (told := recorded.interactions.get(case_id)) is not None and told.response is not None:
                answers[operation][told.response.status_code] += 1
            for check in recorded.checks.get(case_id, []):
                if (found := check.failure_info) is not None:
                    brief = f"{operation}, {check.name}: {found.failure.title}"
                    faults.setdefault((operation, brief), f"{brief}\n{found.failure.message}\n{found.code_sample}")
    return answers, list(faults.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", ["serving", "product", "monitoring"])
def test_no_caller_gets_an_answer_that_is_not_in_the_interface(service, tmp_path, capsys):
    with getattr(providers, service)(tmp_path) as provider, callers_of(provider):
        answers, faults = fuzz(provider)
    total = sum(counts.total() for counts in answers.values())
    with capsys.disabled():
        print(f"\n{service}: {total} cases over {len(answers)} operations, by status of the answer")  # noqa: T201
        for operation, counts in sorted(answers.items()):
            statuses = "  ".join(f"{status}: {count}" for status, count in sorted(counts.items()))
            print(f"  {counts.total():5d}  {operation:42}  {statuses}")  # noqa: T201
    assert not faults, "\n\n".join(faults)
    timid = [operation for operation, counts in answers.items() if not any(status < 300 for status in counts)]
    assert not timid, "callers who never get through test little: give them ids that they may know"
