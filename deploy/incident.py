"""Start an incident in the running city:  python -m deploy.incident bridge-closed"""

from __future__ import annotations

import argparse
import sys

import httpx

from chassis.tokens import read_token
from contracts.conditions import IncidentStart
from contracts.problems import TandemError
from deploy.settings import DeploySettings

WATCH = {
    "bridge-closed": "coverage falls for trips that cross the river, then a decision to retrain, then a promotion",
    "miles": "batches are quarantined and the decision is 'data broken'; nothing is retrained",
    "weather-outage": "rain and temperature are missing from quotes, and the model bears it with wider promises",
    "calm": "every incident ends and the city is as it was",
}


def start(name: str, settings: DeploySettings) -> str:
    """Start the incident now; answers what happens. Raises `TandemError` when the city refuses or is away."""
    badge = {"Authorization": f"Bearer {read_token(settings.tokens_file, 'control')}"}
    try:
        body = IncidentStart(name=name).model_dump()
        answer = httpx.post(f"{settings.url('city')}/v1/incidents", json=body, headers=badge, timeout=10)
    except ValueError as error:
        raise TandemError(f"{name!r} is no name of an incident: small letters and hyphens only") from error
    except httpx.HTTPError as error:
        raise TandemError(f"the city does not answer ({error}): start Tandem with `make run`") from error
    if answer.is_error:
        raise TandemError(f"the city refused {name!r}: {answer.json().get('detail', answer.text)}")
    return f"{name} has started. What to expect: {WATCH.get(name, 'see its file')}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="bridge-closed, miles, weather-outage or calm")
    settings = DeploySettings()
    try:
        print(start(parser.parse_args().name, settings))
    except TandemError as error:
        sys.exit(str(error))
    print(f"Watch it at {settings.url('monitoring')}/")
