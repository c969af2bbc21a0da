"""The tolerant reader: what a contract does not know of an event is passed over (docs/decisions/0007)."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from contracts.feeds import PAYLOADS, Event
from contracts.trips import Wire


def understood(event: Event) -> Event | None:
    """The event without the fields that this contract does not know; None where it does not know the type.

    Values are left as they are: judging them is the reader's part.

    >>> sent = {"id": "1", "source": "/x", "type": "rating.given", "time": "2026-06-01T08:00:00Z", "subject": "t"}
    >>> understood(Event.model_validate(sent | {"data": {"trip_id": "t", "stars": 9, "mood": "fine"}})).data
    {'trip_id': 't', 'stars': 9}
    """
    if event.type not in PAYLOADS:
        return None
    data = _known(event.data, PAYLOADS[event.type])
    return event if data == event.data else event.model_copy(update={"data": data})


def _known(value: Any, kind: Any) -> Any:
    """JSON without the fields that `kind`, a wire model or a container of them, does not have."""
    origin, inner = get_origin(kind), [item for item in get_args(kind) if item is not NoneType]
    if origin is None and isinstance(value, dict):
        fields = _fields(kind)
        return {name: _known(it, fields[name]) if fields[name] else it for name, it in value.items() if name in fields}
    if origin is Annotated or (origin in (Union, UnionType) and len(inner) == 1):
        return _known(value, inner[0])
    if origin is list and isinstance(value, list):
        return [_known(item, inner[0]) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: _known(item, inner[1]) for key, item in value.items()}
    return value


@cache
def _fields(model: type[Wire]) -> dict[str, Any]:
    """A model's fields: the annotation where wire models lie within, else None."""
    kinds = {name: field.annotation for name, field in model.model_fields.items()}
    return {name: kind if _holds_wire(kind) else None for name, kind in kinds.items()}


def _holds_wire(kind: Any) -> bool:
    if get_origin(kind) is None:
        return isinstance(kind, type) and issubclass(kind, Wire)
    return any(_holds_wire(item) for item in get_args(kind))
