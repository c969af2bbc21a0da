"""Kill one process the hard way, for a lesson in what the others do then:  python -m deploy.kill serving"""

from __future__ import annotations

import argparse
import sys

from contracts.problems import TandemError
from deploy.settings import DeploySettings
from deploy.supervisor import Supervisor

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("process", help="city, product, serving, monitoring, data, model or traffic")
    name = parser.parse_args().process
    try:
        pid = Supervisor(DeploySettings()).kill(name)
    except TandemError as error:
        sys.exit(str(error))
    print(f"killed {name} (process {pid}); the supervisor starts it again. Watch quotes go on at the product's page.")
