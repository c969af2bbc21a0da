"""Ids of requests, spans and estimates: unique, and no secret.

They come from a generator that the system's randomness seeds once a process. Asking the system for each lets go of the
interpreter's lock, and a thread that waits for it takes over: in serving that costs more than the estimate.
"""

from __future__ import annotations

import random

_draw = random.Random().randbytes  # noqa: S311


def new_id(digits: int = 32) -> str:
    """A new id of so many hexadecimal digits, an even number.

    >>> len(new_id(16))
    16
    """
    return _draw(digits // 2).hex()
