"""The graph behind MLServer: `mlserver start .` finds it by model-settings.json."""

from graph import OUTPUT, Graph
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Minutes(MLModel):
    """Quantiles of trips."""

    async def load(self) -> bool:
        self.graph = Graph()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self.graph.minutes({item.name: item.data.root for item in payload.inputs})
        output = ResponseOutput(name=OUTPUT, shape=[*found.shape], datatype="FP32", data=found.ravel().tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])
