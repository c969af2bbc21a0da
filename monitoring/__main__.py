"""`python -m monitoring`: the monitoring service."""

from __future__ import annotations

from chassis.service import listen, log_to_stderr
from chassis.tokens import make_tokens
from monitoring.app import build
from monitoring.settings import Settings

if __name__ == "__main__":
    log_to_stderr("monitoring")
    settings = Settings()
    make_tokens(settings.tokens_file)
    listen(build(settings), settings.bind, settings.port("monitoring"), "monitoring")
