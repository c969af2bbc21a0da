"""Routes that ought to ask who is there: each is tried without a token and with a wrong one."""

from __future__ import annotations

import httpx

ANYTHING = {"trip_id": "nothing", "decision_id": "nothing"}


def answering_strangers(url: str) -> tuple[list[str], int]:
    """Guarded routes of a service that answer a stranger with anything but 401, and how many it guards.

    Which routes are guarded is read from its OpenAPI: those that declare a security scheme.
    """
    guarded, open_to_all = 0, []
    document = httpx.get(f"{url}/openapi.json", timeout=20).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "security" not in operation:
                continue
            guarded += 1
            for headers in ({}, {"Authorization": "Bearer made-up"}):
                answer = httpx.request(method, url + path.format(**ANYTHING), headers=headers, timeout=20)
                if answer.status_code != 401:
                    open_to_all.append(f"{method.upper()} {path} answers {answer.status_code}")
                    break
    return open_to_all, guarded
