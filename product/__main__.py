"""Run product:  python -m product"""

from __future__ import annotations

import sys

from chassis.service import listen, log_to_stderr
from contracts.problems import TandemError
from product.main import build
from product.settings import Settings

if __name__ == "__main__":
    log_to_stderr("product")
    settings = Settings()
    try:
        app = build(settings)
    except TandemError as error:
        sys.exit(f"product: {error}")
    listen(app, settings.bind, settings.port("product"), "product")
