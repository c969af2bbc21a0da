"""Run product:  python -m product"""

from __future__ import annotations

import sys

from chassis.logs import write_logs
from chassis.service import listen
from contracts.problems import TandemError
from product.main import build
from product.settings import Settings

if __name__ == "__main__":
    try:
        settings = Settings()
        write_logs("product", settings.log)
        app = build(settings)
    except TandemError as error:
        sys.exit(f"product: {error}")
    listen(app, settings.bind, settings.port("product"), "product")
