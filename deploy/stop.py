"""End a Tandem that lost its terminal:  python -m deploy.stop"""

from __future__ import annotations

import sys

from contracts.problems import TandemError
from deploy.settings import DeploySettings
from deploy.supervisor import Supervisor

if __name__ == "__main__":
    try:
        Supervisor(DeploySettings()).shut_down()
    except TandemError as error:
        sys.exit(str(error))
    print("Tandem is ending; its state stays in var/")
