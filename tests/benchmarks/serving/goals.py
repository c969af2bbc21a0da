"""What serving is asked to reach beside its requirements, each number once, with its words."""

from __future__ import annotations

from tests.benchmarks.goals import Goal

GENERATOR_BUSY = Goal("generator's share of its core against bare uvicorn (above: it measures itself)", "", at_most=0.9)
NOT_ANSWERED = Goal("requests that got no estimate", "requests", at_most=0)

SHARE = {
    16: Goal("throughput, share of bare uvicorn at 16 connections", "", at_least=0.45),
    64: Goal("throughput, share of bare uvicorn at 64 connections", "", at_least=0.5),
}
SHADOW_THROUGHPUT = Goal("throughput with a shadow challenger over that without", "", at_least=0.8)
SHADOW_P99 = Goal("p99 with a shadow challenger over that without", "", at_most=1.1)

BEST_PEER = Goal("throughput over the best Python peer's, at 16 and 64 connections", "times", at_least=10)
BEST_PEER_FLOOR = Goal("throughput over the best Python peer's, at any number of connections", "times", at_least=5)

TAIL_P99_MS = Goal("p99 at 1,000 requests/s, open loop", "ms", at_most=3)
SWAP_P99 = Goal("p99 during swaps over that without", "", at_most=1.5)
SWAP_MEMORY = Goal("resident memory after the last swap over that after a fifth of them", "", at_most=1.03)

START_S = Goal("start to first answer", "s", at_most=1)
WORKER_MB = Goal("resident memory of a worker with two bundles loaded", "MB", at_most=110)
PACKAGES = Goal("installed packages of serving's environment", "packages", at_most=25)
ENVIRONMENT_MB = Goal("size of serving's environment", "MB", at_most=200)

BATCH = Goal("trips/s in requests of 256 over trips/s one by one", "times", at_least=20)
OBSERVABILITY_US = Goal("metrics, ids and logging", "µs a request", at_most=10)

GENERATOR_LATE = Goal("arrivals sent late by the generator's own fault (above: no such load)", "of all", at_most=0.1)
GOODPUT = Goal("estimates/s at three times capacity over capacity", "", at_least=0.9)
RETRY_AFTER = Goal("503s that say when to try again", "of all", at_least=1)
RECOVERY_S = Goal("recovery from three times capacity", "s", at_most=2)
