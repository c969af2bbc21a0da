"""Show in MLflow who serves:  python -m model.aliases [--champion v3-...] [--challenger v4-...]

A role left out is held by no bundle. The training worker runs this after each change of the rollout, in a process of
its own: MLflow is too large to live in the worker's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from contracts.problems import TandemError, plain_words
from model.registry import connect, show_roles
from model.settings import Settings


@plain_words()
def main(arguments: Sequence[str] | None = None) -> int:
    """Set the aliases from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--champion", help="version of the bundle whose answers customers get")
    parser.add_argument("--challenger", help="version of the bundle that answers beside it")
    args, settings = parser.parse_args(arguments), Settings()
    roles = {"champion": args.champion, "challenger": args.challenger}
    try:
        show_roles(connect(settings.mlflow_uri), roles, settings.bundles)
    except TandemError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
