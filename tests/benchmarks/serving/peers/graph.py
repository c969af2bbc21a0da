"""The bundle's graph as every peer serves it: in onnxruntime, with the session's settings that serving has."""

import os

import numpy as np
import onnxruntime

OUTPUT = "quantiles_min"


class Graph:
    """The graph in the file that `PEER_GRAPH` names."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        path = os.environ["PEER_GRAPH"]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.dtypes = {
            item.name: np.int64 if "int64" in item.type else np.float32 for item in self.session.get_inputs()
        }

    def minutes(self, columns):
        """Quantiles in minutes, shape (n_trips, 3), of trips given as a list of numbers for each input."""
        return self.session.run([OUTPUT], {name: np.array(columns[name], kind) for name, kind in self.dtypes.items()})[
            0
        ]
