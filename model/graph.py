"""The network as serving runs it: an ONNX graph of few nodes, since each costs about as much as a trip's arithmetic.

It answers as `DurationNetwork` does, term by term: what rests on a zone alone is looked up, standardising is folded into
weights, and `sigmoid(2 x) - 1/2` is `tanh(x) / 2`. Columns lie in rows, shape (columns, batch), which `Gemm` takes as
they come; all else is (batch, features). `Gemm(A, B, C)` is A B + C.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper, parser
from torch import Tensor

from contracts.bundle import OUTPUT
from contracts.trips import LEVELS, MODEL_INPUTS
from model.encoder import CLIP, NULLABLE, SAME_PLACE, VEHICLE_WIDTH, ZONE_WIDTH
from model.network import STEPS, DurationNetwork

ONNX_TYPES = {"int64": "int64", "float32": "float"}
COLUMNS = (*NULLABLE, "distance_km", "minute", *NULLABLE)  # the second time they say what is missing
GRAPH = f"""
<ir_version: 10, opset_import: ["": 20]>
duration ({", ".join(f"{ONNX_TYPES[item.dtype]}[batch] {item.name}" for item in MODEL_INPUTS)})
  => (float[batch, {len(LEVELS)}] {OUTPUT})
{{
  minute = Cast <to = 1> (minute_of_week)
  given = Concat <axis = 0> ({", ".join(COLUMNS)})
  column = Reshape (given, one_row_each)
  from_one = Add (column, log_offset)
  log = Log (from_one)
  bent = Where (stays_straight, column, log)
  not_too_high = Min (bent, highest)
  clipped = Max (not_too_high, lowest)
  missing = IsNaN (column)
  known = Where (missing, if_missing, clipped)

  angle = Gemm <transA = 1> (known, waves, quarter_turns)
  wave = Sin (angle)
  start = Gather (start_of, pickup_zone)
  end = Gather (end_of, dropoff_zone)
  way = Sub (end, start)
  length = ReduceL2 <keepdims = 1> (way, features)
  pickup = Gather (pickup_of, pickup_zone)
  dropoff = Gather (dropoff_of, dropoff_zone)
  encoded = Concat <axis = 1> (wave, pickup, dropoff, length)

  by_vehicle = Gather (vehicle_of, vehicle)
  with_known = Gemm <transA = 1> (known, known_weight, by_vehicle)
  first = Gemm (encoded, encoded_weight, with_known)
  first_open = Sigmoid (first)
  first_out = Mul (first, first_open)
  second = Gemm (first_out, second_weight, second_bias)
  second_open = Sigmoid (second)
  second_out = Mul (second, second_open)
  head = Gemm (second_out, head_weight, head_bias)

  far = Gemm <transA = 1> (known, far_weight, far_bias)
  bends = Tanh (far)
  rising = Where (rises_straight, far, bends)
  positive = Softplus (head)
  slopes, share, fixed = Split <axis = 1> (positive, slopes_share_fixed)
  parts = Mul (slopes, rising)
  log_usual = Gemm (parts, part_weight)
  usual = Exp (log_usual)

  relative = Div (fixed, usual)
  gap = Add (share, relative)
  outwards = Gemm (gap, to_levels, ones)
  factor = Pow (outwards, calibration)
  from_flow = Gather (flow_from, pickup_zone)
  to_flow = Gather (flow_to, dropoff_zone)
  flow = Add (from_flow, to_flow)
  shift = Gather (shift_of, flow)
  p50 = Mul (usual, shift)
  {OUTPUT} = Mul (factor, p50)
}}
"""


def graph_of(network: DurationNetwork) -> onnx.ModelProto:
    """The trained network's graph; equal weights give equal bytes."""
    model: onnx.ModelProto = parser.parse_model(GRAPH)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in _constants(network).items())
    onnx.checker.check_model(model, full_check=True)
    return model


def _constants(network: DurationNetwork) -> dict[str, np.ndarray]:
    """The graph's constants by name, worked out in double precision."""
    whole = _columns(network) | _zones(network) | _layers(network) | _quantiles(network)
    return {
        name: np.ascontiguousarray(value, np.float32 if value.dtype == np.float64 else value.dtype)
        for name, value in whole.items()
    }


def _columns(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What makes the rows of `known` from those of `column`; NaN means missing, and only the nullable can be."""
    encoder, row = network.encoder, {name: number for number, name in reversed(list(enumerate(COLUMNS)))}
    centre, reach = _of(encoder.centre), CLIP * _of(encoder.spread)
    free, flags = np.full(2, np.inf), np.zeros(len(NULLABLE))
    straight = np.isin(COLUMNS, ["temperature_c", "minute"])
    turn = np.repeat([0.0, math.pi / 2], len(encoder.waves))  # a sine a quarter turn later is a cosine
    waves = np.zeros((len(COLUMNS), len(turn)))
    waves[row["minute"]] = np.tile(_of(encoder.waves), 2)
    return {
        "one_row_each": np.array([len(COLUMNS), -1]),
        "log_offset": np.where(np.isin(COLUMNS, ["distance_km"]), 0.0, 1.0)[:, None],
        "stays_straight": straight[:, None],
        "lowest": np.concatenate([centre - reach, -free, flags])[:, None],
        "highest": np.concatenate([centre + reach, free, flags])[:, None],
        "if_missing": np.concatenate([centre, np.zeros(2), flags + 1])[:, None],
        "waves": waves,
        "quarter_turns": turn,
    }


def _zones(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What rests on the pickup's or the dropoff's zone, by zone id; all zones that it does not know share a row."""
    encoder = network.encoder
    index = encoder.zone_index.numpy()
    place, group = _of(encoder.place)[index], network.group.numpy()[index]
    apart = np.full((len(index), 1), math.sqrt(SAME_PLACE))
    return {
        "start_of": np.hstack([place, 0 * apart]),
        "end_of": np.hstack([place, apart]),
        "features": np.array([1]),
        "pickup_of": np.hstack([place, _of(encoder.pickup.weight)[index]]),
        "dropoff_of": np.hstack([place, _of(encoder.dropoff.weight)[index]]),
        "flow_from": group * len(network.shift),
        "flow_to": group,
        "shift_of": np.exp(_of(network.shift)).reshape(-1, 1),
    }


def _layers(network: DurationNetwork) -> dict[str, np.ndarray]:
    """Weights by kind of feature, (features, hidden), the known columns' with what standardises them folded in."""
    encoder, (first, second) = network.encoder, (network.body[0], network.body[2])
    widths = (2 * len(encoder.waves), 2, 2, 1, ZONE_WIDTH, ZONE_WIDTH, VEHICLE_WIDTH, len(NULLABLE), len(NULLABLE))
    wave, start, end, length, pickup, dropoff, vehicle, known, missing = np.split(
        _of(first.weight).T, np.cumsum(widths[:-1])
    )
    scaled = known / _of(encoder.spread)[:, None]
    return {
        "vehicle_of": _of(encoder.vehicle.weight) @ vehicle + _of(first.bias) - _of(encoder.centre) @ scaled,
        "known_weight": np.vstack([scaled, np.zeros((2, scaled.shape[1])), missing]),
        "encoded_weight": np.vstack([wave, start, pickup, end, dropoff, length]),
        "second_weight": _of(second.weight).T,
        "second_bias": _of(second.bias),
    }


def _quantiles(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What makes quantiles of the last layer. Its level, which may be negative, is the difference of two softplus:
    that of itself and that of its opposite."""
    bends, (centre, spread) = len(STEPS), _of(network.distance)
    below, above = _of(network.calibration)
    far_weight = np.zeros((len(COLUMNS), 3 + bends))
    far_weight[COLUMNS.index("distance_km"), 2:] = 1 / spread
    weight = np.column_stack([_of(network.head.weight), _of(network.head.bias)])
    level, slopes, (share_below, fixed_below, share_above, fixed_above) = weight[0], weight[1:-4], weight[-4:]
    head = np.vstack([level, -level, slopes, share_below, share_above, fixed_below, fixed_above])
    return {
        "head_weight": head[:, :-1].T,
        "head_bias": head[:, -1],
        "far_weight": far_weight,
        "far_bias": np.concatenate([[1, 1], -centre / spread - np.array([0.5, *STEPS])]),
        "rises_straight": np.arange(3 + bends) < 3,
        "slopes_share_fixed": np.array([3 + bends, 2, 2]),
        "part_weight": np.array([1, -1, 1] + [0.5] * bends)[:, None],
        "to_levels": np.array([[1.0, 0, 0], [0, 0, 1]]),
        "ones": np.ones(len(LEVELS)),
        "calibration": np.array([-below, 0, above]),
    }


def _of(tensor: Tensor) -> np.ndarray:
    value: np.ndarray = tensor.detach().double().numpy()
    return value
