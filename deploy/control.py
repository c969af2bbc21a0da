"""Reach into the running Tandem:  python -m deploy.control incident bridge-closed | kill serving | stop"""

from __future__ import annotations

import argparse

import httpx

from chassis.tokens import read_token
from contracts.conditions import IncidentStart
from contracts.problems import TandemError, plain_words
from deploy.settings import DeploySettings
from deploy.supervisor import Supervisor

WATCH = {
    "bridge-closed": "trips across the river take longer: coverage falls there, a retraining follows, then a promotion",
    "miles": "distances arrive in miles: batches are quarantined, the decision is 'data broken', nothing is retrained",
    "weather-outage": "rain and temperature are missing from quotes, and the model has to bear it",
    "calm": "nothing changes, and nothing should be decided",
}


def start_incident(name: str, settings: DeploySettings) -> str:
    """Start an incident in the city now; answers what to watch."""
    badge = {"Authorization": f"Bearer {read_token(settings.tokens_file, 'control')}"}
    try:
        body = IncidentStart(name=name).model_dump()
        answer = httpx.post(f"{settings.url('city')}/v1/incidents", json=body, headers=badge, timeout=10)
    except ValueError as error:
        raise TandemError(f"{name!r} cannot be an incident: small letters and hyphens only") from error
    except httpx.HTTPError as error:
        raise TandemError(f"the city does not answer ({error}): start Tandem with `make run`") from error
    if answer.is_error:
        raise TandemError(f"the city refused {name!r}: {answer.json().get('detail', answer.text)}")
    return f"{name} has started: {WATCH.get(name, 'see its file')}\nwatch it at {settings.url('monitoring')}/"


def kill(name: str, settings: DeploySettings) -> str:
    """Kill a process the hard way; answers what to watch."""
    pid = Supervisor(settings).kill(name)
    return f"killed {name} (process {pid}); it is started again. Watch the quotes go on at {settings.url('product')}/"


def stop(settings: DeploySettings) -> str:
    """End all of Tandem's processes."""
    Supervisor(settings).shut_down()
    return f"Tandem is ending; its state stays in {settings.var}"


@plain_words()
def main() -> None:
    """Do one thing and say what follows from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("incident").add_argument("name", help=", ".join(WATCH))
    commands.add_parser("kill").add_argument("name", help="city, product, serving, monitoring, data, model or traffic")
    commands.add_parser("stop")
    asked = parser.parse_args()
    settings = DeploySettings()
    if asked.command == "stop":
        print(stop(settings))
    else:
        print({"incident": start_incident, "kill": kill}[asked.command](asked.name, settings))


if __name__ == "__main__":
    main()
