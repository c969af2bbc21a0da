"""`python -m monitoring`: the monitoring service."""

from __future__ import annotations

from chassis.logs import write_logs
from chassis.service import listen
from chassis.tokens import make_tokens
from contracts.problems import plain_words
from monitoring.app import build
from monitoring.settings import Settings

if __name__ == "__main__":
    with plain_words():
        settings = Settings()
        write_logs("monitoring", settings.log)
        make_tokens(settings.tokens_file)
        listen(build(settings), settings.bind, settings.port("monitoring"), "monitoring")
