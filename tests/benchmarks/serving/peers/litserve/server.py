"""The graph behind LitServe:  python server.py PORT"""

import sys

import litserve
from graph import Graph


class Minutes(litserve.LitAPI):
    """Quantiles of trips."""

    def setup(self, _device):
        self.graph = Graph()

    def decode_request(self, request):
        return request

    def predict(self, columns):
        return self.graph.minutes(columns)

    def encode_response(self, output):
        return {"quantiles_min": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Minutes(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    options = {"host": "127.0.0.1", "num_api_servers": 1, "generate_client_file": False}
    server.run(port=int(sys.argv[1]), log_level="warning", access_log=False, **options)
