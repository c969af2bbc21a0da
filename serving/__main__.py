"""Answer trips with estimates:  python -m serving [--workers N]"""

import argparse
import sys

from chassis.http import Limits
from chassis.logs import write_logs
from chassis.service import listen
from chassis.workers import share
from contracts.problems import TandemError
from serving.main import app_from_settings, build
from serving.settings import Settings


def main() -> None:
    """Build the service from its settings and serve until told to end."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--workers", type=int, help="processes on one socket (default: TANDEM_SERVING_WORKERS, else 1)")
    given = {f"serving_{name}": value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings = Settings(**given)
        write_logs("serving", settings.log)
        limits = Limits(connections=settings.serving_connections)
        where = (settings.bind, settings.serving_port, "serving")
        if settings.serving_workers > 1:
            share(app_from_settings, settings.serving_workers, *where, settings.metrics, limits)
            return
        app = build(settings)
    except TandemError as error:
        sys.exit(f"serving: {error}")
    listen(app, *where, limits)


if __name__ == "__main__":
    main()
