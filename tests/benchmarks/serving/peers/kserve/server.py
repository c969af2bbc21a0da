"""The graph behind KServe's Python model server:  python server.py PORT"""

import logging
import sys

from graph import OUTPUT, Graph
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Minutes(Model):
    """Quantiles of trips."""

    def __init__(self):
        super().__init__("tandem")
        self.graph = Graph()
        self.ready = True

    async def predict(self, payload: InferRequest, *_, **__) -> InferResponse:
        found = self.graph.minutes({item.name: item.data for item in payload.inputs})
        output = InferOutput(name=OUTPUT, shape=[*found.shape], datatype="FP32", data=found.ravel().tolist())
        return InferResponse(response_id=payload.id or generate_uuid(), model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    logging.getLogger("uvicorn.access").addFilter(lambda _: False)  # a line a request, which ours does not write either
    options = {"workers": 1, "enable_grpc": False, "enable_latency_logging": False}
    ModelServer(http_port=int(sys.argv[1]), **options).start([Minutes()])
