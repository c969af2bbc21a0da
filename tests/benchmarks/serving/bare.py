"""The reference: bare uvicorn, an application that reads the body and answers as many bytes as an estimate has.

python -m tests.benchmarks.serving.bare --port 8100 --bytes 250
"""

from __future__ import annotations

import argparse

import uvicorn
from starlette.types import Receive, Scope, Send


class Bare:
    """The least that an ASGI application can do for a request and still read it."""

    def __init__(self, answer_bytes: int) -> None:
        self.body = b"x" * answer_bytes
        self.headers = [(b"content-type", b"application/json"), (b"content-length", str(answer_bytes).encode())]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True, help="of each answer's body")
    told = parser.parse_args()
    options = {"loop": "uvloop", "http": "httptools", "lifespan": "off", "access_log": False, "log_level": "warning"}
    uvicorn.run(Bare(told.bytes), host="127.0.0.1", port=told.port, timeout_keep_alive=75, **options)


if __name__ == "__main__":
    main()
