"""The graph behind BentoML: `bentoml serve service:Minutes`."""

import bentoml
from graph import Graph


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Minutes:
    """Quantiles of trips."""

    def __init__(self):
        self.graph = Graph()

    @bentoml.api
    async def estimate(self, columns: dict[str, list[float]]) -> list[list[float]]:
        return self.graph.minutes(columns).tolist()
