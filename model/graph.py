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
from model.encoder import CLIP, NULLABLE, SAME_PLACE, VEHICLE_WIDTH, WEEK_MIN, ZONE_WIDTH
from model.network import STEPS, DurationNetwork

ONNX_TYPES = {"int64": "int64", "float32": "float"}
GIVEN = (*NULLABLE, "distance_km", *NULLABLE, "distance_km")  # again: to say what is missing, and to become one
DISTANCE, ONE = 4, 9
NOT_STATED, ANY_NUMBER = -1e9, 1e3
GRAPH = f"""
<ir_version: 10, opset_import: ["": 20, "ai.onnx.ml": 3]>
duration ({", ".join(f"{ONNX_TYPES[item.dtype]}[batch] {item.name}" for item in MODEL_INPUTS)})
  => (float[batch, {len(LEVELS)}] {OUTPUT})
{{
  given = Concat <axis = 0> ({", ".join(GIVEN)})
  column = Reshape (given, one_row_each)
  moved = Add (column, offset)
  log = Log (moved)
  bent = Where (stays_straight, moved, log)
  stated = ai.onnx.ml.Imputer <imputed_value_floats = [{NOT_STATED}], replaced_value_float = nan> (bent)
  not_too_high = Min (stated, highest)
  known = Max (not_too_high, lowest)

  minute = Range (zero, week, one_minute)
  minute_column = Reshape (minute, one_column)
  angle = Mul (minute_column, waves)
  sine = Sin (angle)
  cosine = Cos (angle)
  wave_of = Concat <axis = 1> (sine, cosine)

  wave = Gather (wave_of, minute_of_week)
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
  positive = Softplus (head)

  far = Gemm <transA = 1> (known, far_weight, far_bias)
  bend = Tanh (far)
  rising = Gemm <transA = 1> (known, straight_weight, bend)
  part = Mul (positive, rising)
  log_divisor = Gemm (part, divisor_weight)
  divisor = Exp (log_divisor)
  relative = Div (part, divisor)
  gap = Gemm (relative, gap_weight, ones)
  factor = Pow (gap, calibration)

  from_flow = Gather (flow_from, pickup_zone)
  to_flow = Gather (flow_to, dropoff_zone)
  flow = Add (from_flow, to_flow)
  shift = Gather (shift_of, flow)
  log_p50 = Gemm (part, level_weight, shift)
  p50 = Exp (log_p50)
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
    whole = _columns(network) | _times(network) | _zones(network) | _layers(network) | _quantiles(network)
    return {
        name: np.asarray(value, np.float32 if value.dtype == np.float64 else value.dtype, order="C")
        for name, value in whole.items()
    }


def _columns(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What makes the rows of `known` from what is given."""
    centre, reach = _of(network.encoder.centre), CLIP * _of(network.encoder.spread)
    flags, free, one = np.zeros(len(NULLABLE)), [np.inf], [1.0]
    logs = np.array([name != "temperature_c" for name in NULLABLE])
    return {
        "one_row_each": np.array([len(GIVEN), -1]),
        "offset": np.concatenate([1.0 * logs, [0], flags + ANY_NUMBER, [0]])[:, None],
        "stays_straight": np.concatenate([~logs, [False], flags == 0, [False]])[:, None],
        "lowest": np.concatenate([centre - reach, np.negative(free), flags - 1, one])[:, None],
        "highest": np.concatenate([centre + reach, free, flags, one])[:, None],
    }


def _times(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What makes the table of waves by minute of the week, once when a session starts: the file is a tenth of it."""
    return {
        "zero": np.array(0.0),
        "week": np.array(float(WEEK_MIN)),
        "one_minute": np.array(1.0),
        "one_column": np.array([-1, 1]),
        "waves": _of(network.encoder.waves)[None],
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
        "shift_of": _of(network.shift).reshape(-1, 1),
    }


def _layers(network: DurationNetwork) -> dict[str, np.ndarray]:
    """Weights by kind of feature, (features, hidden), the known columns' with what standardises them folded in."""
    encoder, (first, second) = network.encoder, (network.body[0], network.body[2])
    widths = (2 * len(encoder.waves), 2, 2, 1, ZONE_WIDTH, ZONE_WIDTH, VEHICLE_WIDTH, len(NULLABLE), len(NULLABLE))
    wave, start, end, length, pickup, dropoff, vehicle, known, missing = np.split(
        _of(first.weight).T, np.cumsum(widths[:-1])
    )
    unseen = np.zeros((1, first.out_features))
    scaled = known / _of(encoder.spread)[:, None]
    return {
        "vehicle_of": _of(encoder.vehicle.weight) @ vehicle + _of(first.bias) - _of(encoder.centre) @ scaled,
        "known_weight": np.vstack([scaled, unseen, -missing - CLIP * known, unseen]),
        "encoded_weight": np.vstack([wave, start, pickup, end, dropoff, length]),
        "second_weight": _of(second.weight).T,
        "second_bias": _of(second.bias),
    }


def _quantiles(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What makes quantiles of the last layer: `part` holds the terms of log usual minutes, then shares and fixed minutes
    below and above. The level, which may be negative, is the difference of two softplus: of itself and its opposite."""
    bends, (centre, spread) = len(STEPS), _of(network.distance)
    below, above = _of(network.calibration)
    terms = np.array([1, -1, 1] + [0.5] * bends + [0] * 4)
    weight = np.column_stack([_of(network.head.weight), _of(network.head.bias)])
    level, slopes, (share_below, fixed_below, share_above, fixed_above) = weight[0], weight[1:-4], weight[-4:]
    head = np.vstack([level, -level, slopes, share_below, share_above, fixed_below, fixed_above])
    far_weight, far_bias = np.zeros((len(GIVEN), len(terms))), np.zeros(len(terms))
    far_weight[DISTANCE, 3 : 3 + bends] = 1 / spread
    far_bias[3 : 3 + bends] = -centre / spread - np.array(STEPS)
    straight_weight = np.zeros((len(GIVEN), len(terms)))
    straight_weight[DISTANCE, 2] = 1 / spread
    straight_weight[ONE] = [1, 1, -centre / spread - 0.5] + [0] * bends + [1] * 4
    divisor_weight = np.zeros((len(terms), len(terms)))
    divisor_weight[:, -2:] = terms[:, None]
    gap_weight = np.zeros((len(terms), 3))
    gap_weight[-4:, [0, 2]] = np.tile(np.eye(2), (2, 1))
    return {
        "head_weight": head[:, :-1].T,
        "head_bias": head[:, -1],
        "far_weight": far_weight,
        "far_bias": far_bias,
        "straight_weight": straight_weight,
        "divisor_weight": divisor_weight,
        "gap_weight": gap_weight,
        "ones": np.ones(len(LEVELS)),
        "calibration": np.array([-below, 0, above]),
        "level_weight": np.tile(terms[:, None], len(LEVELS)),
    }


def _of(tensor: Tensor) -> np.ndarray:
    value: np.ndarray = tensor.detach().double().numpy()
    return value
