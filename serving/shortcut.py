"""The short way to an estimate, past the app, which takes longer than the estimate itself.

Only what is plainly good goes this way: any other request is left to the app as it came, so that one place alone, the
route, decides how bad requests are answered (docs/decisions/0011).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from pydantic import ValidationError

from chassis.direct import Tell
from chassis.problems import ProblemError, answer
from contracts.estimates import TIMEOUT_HEADER, EstimatesRequest
from serving.caller import Caller
from serving.desk import EstimateDesk
from serving.engine import Outcome
from serving.observation import ESTIMATES, Observation

WHOLE = re.compile(rb"[1-9][0-9]{0,5}")
ANSWERED = b"content-type: application/json\r\ncontent-length: %d\r\n"
_TIMEOUT = TIMEOUT_HEADER.lower().encode()


class Shortcut:
    """Answers good requests for estimates itself; see `chassis.direct.Direct`."""

    path = ESTIMATES

    def __init__(self, desk: EstimateDesk, observation: Observation, largest_body_bytes: int) -> None:
        self.desk, self.observation, self.largest = desk, observation, largest_body_bytes

    def take(self, headers: Mapping[bytes, bytes], body: bytes, tell: Tell) -> bool:
        """Ask for estimates, unless anything about the request isn't as contracted."""
        began, timeout = time.perf_counter(), headers.get(_TIMEOUT)
        if headers.get(b"content-type") != b"application/json" or len(body) > self.largest:
            return False
        if timeout is not None and WHOLE.fullmatch(timeout) is None:
            return False
        try:
            asked = EstimatesRequest.model_validate_json(body)
        except ValidationError:
            return False
        caller = Caller.of(headers)

        def told(outcome: Outcome) -> None:
            if isinstance(outcome, ProblemError):
                refusal = answer(outcome, ESTIMATES)
                status, text = refusal.status_code, bytes(refusal.body)
                lines = b"".join([b"%b: %b\r\n" % header for header in refusal.raw_headers])
            else:
                status, text = 200, outcome.encode()
                lines = ANSWERED % len(text)
            tell(status, lines + caller.lines(), text)
            self.observation.answered(caller, status, began)

        try:
            self.desk.ask(asked.trips, asked.with_reasons, caller, None if timeout is None else int(timeout), told)
        except ProblemError as problem:
            told(problem)
        return True
