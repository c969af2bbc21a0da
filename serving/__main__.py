"""Answer trips with estimates:  python -m serving"""

import sys

from chassis.service import listen, log_to_stderr
from contracts.problems import TandemError
from serving.main import build
from serving.settings import Settings


def main() -> None:
    """Build the service from its settings and serve until told to end."""
    log_to_stderr("serving")
    settings = Settings()
    try:
        app = build(settings)
    except TandemError as error:
        sys.exit(f"serving: {error}")
    listen(app, settings.bind, settings.serving_port, "serving")


if __name__ == "__main__":
    main()
