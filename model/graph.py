"""The network as serving runs it: an ONNX graph of few nodes, since for one trip each costs more than its arithmetic.

It answers as `DurationNetwork` does, term by term. A change there needs one here: `export` refuses what differs.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper, parser
from torch import Tensor, nn

from contracts.bundle import OUTPUT
from contracts.trips import LEVELS, MODEL_INPUTS
from model.encoder import CLIP, NULLABLE, SAME_PLACE, VEHICLE_WIDTH, WAVES, ZONE_WIDTH
from model.network import STEPS, DurationNetwork

ONNX_TYPES = {"int64": "int64", "float32": "float"}
BENT = ("parcel_kg", "rain_mm_h", "city_pace")  # those that the encoder takes the logarithm of
ROWS = [NULLABLE.index(name) for name in (*BENT, "temperature_c")]  # nullable columns in the order of the graph's rows
KM, MINUTE, ONE = len(ROWS), len(ROWS) + 1, 2 * len(ROWS) + 2  # rows of log distance, of minute of the week, of ones
MISSING = -1e9  # stands for NaN, below all that can be
TOO_COLD = -64.0  # degrees Celsius, below the contract's; a larger number would cost digits

# Gemm(A, B, C) is A B + C. Numbers lie in rows, shape (columns, batch), as Gemm takes them; all else is (batch, ...).
GRAPH = f"""
<ir_version: 10, opset_import: ["": 20, "ai.onnx.ml": 3]>
duration ({", ".join(f"{ONNX_TYPES[item.dtype]}[batch] {item.name}" for item in MODEL_INPUTS)})
  => (float[batch, {len(LEVELS)}] {OUTPUT})
{{
  # Tables by zone and by pair of zones, from constants alone: a session works them out once, when it starts.
  pickup_of = Gather (pickup_rows, zone_index)
  dropoff_of = Gather (dropoff_rows, zone_index)
  first_pair_of = Mul (zone_index, zones)
  end = Unsqueeze (place, middle_axis)
  way = Sub (end, place)
  way_squared = Mul (way, way)
  length_squared = ReduceSum <keepdims = 0> (way_squared, last_axis)
  never_zero = Add (length_squared, same_place)
  length_table = Sqrt (never_zero)
  length_of = Reshape (length_table, one_column)
  shift_rows = Gather <axis = 0> (group_shift, group)
  shift_table = Gather <axis = 1> (shift_rows, group)
  shift_of = Reshape (shift_table, one_column)

  # Numbers, clipped. The second time they tell what is missing: a row is one lower there. The last row is one.
  skewed = Concat <axis = 0> ({", ".join(BENT)})
  from_one = Add (skewed, one)
  bent = Log (from_one)
  log_km = Log (distance_km)
  minute = Cast <to = 1> (minute_of_week)
  given = Concat <axis = 0> (bent, temperature_c, log_km, minute, bent, temperature_c, log_km)
  given_rows = Reshape (given, one_row_each)
  stated = ai.onnx.ml.Imputer <replaced_value_float = nan, imputed_value_floats = [{MISSING}]> (given_rows)
  not_too_high = Min (stated, highest)
  known = Max (not_too_high, lowest)

  # What hangs on the zones and on the time
  first_pair = Gather (first_pair_of, pickup_zone)
  dropoff_index = Gather (zone_index, dropoff_zone)
  pair = Add (first_pair, dropoff_index)
  length = Gather (length_of, pair)
  shift = Gather (shift_of, pair)
  pickup = Gather (pickup_of, pickup_zone)
  dropoff = Gather (dropoff_of, dropoff_zone)
  angle = Gemm <transA = 1> (known, waves, quarter_turns)
  wave = Sin (angle)
  encoded = Concat <axis = 1> (wave, pickup, dropoff, length)

  # The body
  by_vehicle = Gather (vehicle_of, vehicle)
  with_known = Gemm <transA = 1> (known, known_weight, by_vehicle)
  first = Gemm (encoded, encoded_weight, with_known)
  first_gate = Sigmoid (first)
  first_out = Mul (first, first_gate)
  second = Gemm (first_out, second_weight, second_bias)
  second_gate = Sigmoid (second)
  second_out = Mul (second, second_gate)
  head = Gemm (second_out, head_weight, head_bias)
  positive = Softplus (head)

  # `part` holds the terms that add up to log usual minutes, then share below and above, fixed minutes below and above
  far = Gemm <transA = 1> (known, bend_weight, bend_bias)
  bend = Tanh (far)
  rising = Gemm <transA = 1> (known, rising_weight, bend)
  part = Mul (positive, rising)
  log_divisor = Gemm (part, divisor_weight)
  divisor = Exp (log_divisor)
  relative = Div (part, divisor)
  gap = Gemm (relative, gap_weight, ones)
  factor = Pow (gap, calibration)
  log_p50 = Gemm (part, level_weight, shift)
  p50 = Exp (log_p50)
  {OUTPUT} = Mul (factor, p50)
}}
"""


def graph_of(network: DurationNetwork) -> onnx.ModelProto:
    """The trained network's graph; equal weights give equal bytes."""
    model: onnx.ModelProto = parser.parse_model(GRAPH)
    constants = _numbers(network) | _tables(network) | _body(network) | _quantiles(network)
    for name, value in constants.items():
        kind = np.float32 if value.dtype == np.float64 else value.dtype
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind, order="C"), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def _numbers(network: DurationNetwork) -> dict[str, np.ndarray]:
    """Bounds of the rows: nullable columns, log distance, minute, what is missing, one. And waves of the minute: a sine
    a quarter turn later is a cosine."""
    centre, reach, unflagged, free = *_standard(network), _unflagged(), np.full(2, np.inf)
    waves = np.zeros((ONE + 1, 2 * len(WAVES)))
    waves[MINUTE] = np.tile(_of(network.encoder.waves), 2)
    return {
        "one": np.array(1.0),
        "one_row_each": np.array([ONE + 1, -1]),
        "lowest": np.concatenate([centre - reach, -free, unflagged - 1, [1]])[:, None],
        "highest": np.concatenate([centre + reach, free, unflagged, [1]])[:, None],
        "waves": waves,
        "quarter_turns": np.repeat([0, np.pi / 2], len(WAVES)),
    }


def _tables(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What tables by zone and by pair of zones are made from."""
    encoder, place = network.encoder, _of(network.encoder.place)
    return {
        "one_column": np.array([-1, 1]),
        "zone_index": encoder.zone_index.numpy(),
        "zones": np.array(len(place)),
        "pickup_rows": np.hstack([place, _of(encoder.pickup.weight)]),
        "dropoff_rows": np.hstack([place, _of(encoder.dropoff.weight)]),
        "place": place,
        "middle_axis": np.array([1]),
        "last_axis": np.array([2]),
        "same_place": np.array(SAME_PLACE),
        "group": network.group.numpy(),
        "group_shift": _of(network.shift),
    }


def _body(network: DurationNetwork) -> dict[str, np.ndarray]:
    """Weights as (features, hidden), in the first layer by kind of feature; what standardises is folded into them.

    A missing number lies at its lowest: what that adds is taken off again with the row that tells so.
    """
    first, second = network.body[0], network.body[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    widths = (2 * len(WAVES), 2, 2, 1, ZONE_WIDTH, ZONE_WIDTH, VEHICLE_WIDTH, len(NULLABLE), len(NULLABLE))
    wave, start, end, length, pickup, dropoff, vehicle, known, missing = np.split(
        _of(first.weight).T, np.cumsum(widths[:-1])
    )
    centre, reach = _standard(network)
    flag, per_unit = -missing[ROWS] - CLIP * known[ROWS], CLIP * known[ROWS] / reach[:, None]
    unseen = np.zeros((1, first.out_features))
    bias = _of(first.bias) - centre @ per_unit - _unflagged() @ flag
    return {
        "known_weight": np.vstack([per_unit, unseen, unseen, flag, unseen]),
        "vehicle_of": _of(network.encoder.vehicle.weight) @ vehicle + bias,
        "encoded_weight": np.vstack([wave, start, pickup, end, dropoff, length]),
        "second_weight": _of(second.weight).T,
        "second_bias": _of(second.bias),
    }


def _quantiles(network: DurationNetwork) -> dict[str, np.ndarray]:
    """What makes quantiles of the last layer.

    `sigmoid(2 x) - 1/2` is `tanh(x) / 2`; a level, which may be negative, is its own softplus less its opposite's.
    """
    terms = np.array([1, -1, 1] + [0.5] * len(STEPS) + [0] * 4)
    bends = slice(3, 3 + len(STEPS))
    centre, spread = _of(network.distance)
    below, above = _of(network.calibration)
    rows = np.column_stack([_of(network.head.weight), _of(network.head.bias)])
    level, slopes, (share_below, fixed_below, share_above, fixed_above) = rows[0], rows[1:-4], rows[-4:]
    head = np.vstack([level, -level, slopes, share_below, share_above, fixed_below, fixed_above])

    bend_weight, bend_bias, rising = (np.zeros((rows, len(terms))) for rows in (ONE + 1, 1, ONE + 1))
    bend_weight[KM, bends] = rising[KM, 2] = 1 / spread
    bend_bias[0, bends] = -centre / spread - np.array(STEPS)
    rising[ONE] = np.where(terms == 0.5, 0, 1)
    rising[ONE, 2] = -centre / spread - 0.5
    divisor, gap = np.zeros((len(terms), len(terms))), np.zeros((len(terms), len(LEVELS)))
    divisor[:, -2:] = terms[:, None]
    gap[[-4, -2], 0] = gap[[-3, -1], 2] = 1
    return {
        "head_weight": head[:, :-1].T,
        "head_bias": head[:, -1],
        "bend_weight": bend_weight,
        "bend_bias": bend_bias,
        "rising_weight": rising,
        "divisor_weight": divisor,
        "gap_weight": gap,
        "ones": np.ones(len(LEVELS)),
        "calibration": np.array([-below, 0, above]),
        "level_weight": np.tile(terms[:, None], len(LEVELS)),
    }


def _standard(network: DurationNetwork) -> tuple[np.ndarray, np.ndarray]:
    """Centre of the nullable columns, and how far from it they are clipped; shape (4,) each, in the rows' order."""
    return _of(network.encoder.centre)[ROWS], CLIP * _of(network.encoder.spread)[ROWS]


def _unflagged() -> np.ndarray:
    """What the rows that tell of missing values hold for a value that is there."""
    return np.array([0.0] * len(BENT) + [TOO_COLD])


def _of(tensor: Tensor) -> np.ndarray:
    value: np.ndarray = tensor.detach().double().numpy()
    return value
