"""A learning curve: how a figure changes with the rows learnt from, and how sure one can be of more rows. Pure.

A model's loss on new trips falls with its n training rows about like a + b * n**-c (Hestness et al. 2017, "Deep
learning scaling is predictable, empirically"): a is what no number of rows takes away, c how quickly they help. Below
some size the law does not hold yet: see `trials.sizes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

FALLING = tuple((-np.geomspace(0.1, 1.5, 29)).tolist())  # exponents tried; reported ones lie between -0.05 and -1
LINEAR = (1.0,)
FLAT = (0.0,)
PARAMETERS = {FALLING: 3, LINEAR: 2, FLAT: 1}


@dataclass(frozen=True)
class Curves:
    """Curves `a + b * rows**exponent`, b never below 0; arrays of shape (curves,)."""

    a: np.ndarray
    b: np.ndarray
    exponent: np.ndarray

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Their values at some numbers of rows: shape (n,) to (curves, n).

        >>> Curves(np.array([2.0]), np.array([10.0]), np.array([-0.5])).at(np.array([25.0, 100.0])).tolist()
        [[4.0, 3.0]]
        """
        found: np.ndarray = self.a[:, None] + self.b[:, None] * rows[None, :] ** self.exponent[:, None]
        return found


def fit(rows: np.ndarray, measured: np.ndarray, exponents: tuple[float, ...]) -> Curves:
    """The curve of least squares through each line of points: (n,) rows, (curves, n) values, none of them negative.

    a and b are solved for exactly for each exponent, within a >= 0 and b >= 0. Each size counts alike, however often
    it was tried: its points weigh one over their number.
    """
    sizes, size, tried = np.unique(rows, return_inverse=True, return_counts=True)
    weight = 1 / (tried[size] * len(sizes))
    best = Curves(*(np.zeros(len(measured)) for _ in range(3)))
    least = np.full(len(measured), np.inf)
    scale = rows.max()  # powers of shares of the largest size: nothing overflows
    for exponent in exponents:
        x = (rows / scale) ** exponent
        mean_x, mean_y = weight @ x, measured @ weight
        spread = weight @ (x - mean_x) ** 2
        slope = ((measured - mean_y[:, None]) * (x - mean_x)) @ weight / spread if spread > 0 else np.zeros_like(mean_y)
        b = np.maximum(slope, 0)
        a = mean_y - b * mean_x
        through_zero = (measured * x) @ weight / (weight @ x**2)
        a, b = np.where(a < 0, 0, a), np.where(a < 0, through_zero, b)
        off = ((measured - a[:, None] - b[:, None] * x) ** 2) @ weight
        better = off < least
        least = np.where(better, off, least)
        best = Curves(
            np.where(better, a, best.a),
            np.where(better, b * scale**-exponent, best.b),
            np.where(better, exponent, best.exponent),
        )
    return best


@dataclass(frozen=True)
class Drawn:
    """Curves as they might as well have come out, and how far one later training would stray from each, (draws,)."""

    best: Curves
    curves: Curves
    stray: np.ndarray


def ratio(parts: np.ndarray) -> np.ndarray:
    """The first part over the second: shape (2, draws, n) to (draws, n)."""
    found: np.ndarray = parts[0] / parts[1]
    return found


def furthest(middle: float, parts: np.ndarray) -> np.ndarray:
    """The part that lies furthest from `middle`, above or below: shape (parts, draws, n) to (draws, n).

    >>> furthest(0.9, np.array([[[0.85, 0.91]], [[0.93, 0.88]]])).tolist()
    [[0.85, 0.88]]
    """
    found: np.ndarray = np.take_along_axis(parts, np.abs(parts - middle).argmax(0)[None], 0)[0]
    return found


@dataclass(frozen=True)
class Outlook:
    """A figure over rows, made of one drawn curve or of several: `figure` takes (parts, draws, n) to (draws, n)."""

    parts: Sequence[Drawn]
    figure: Callable[[np.ndarray], np.ndarray]

    def at(self, rows: np.ndarray, *, again: bool = False) -> np.ndarray:
        """The figure in each draw: (n,) rows to (draws, n). `again`: as one later training would measure it, with a
        seed and held-out trips of its own."""
        return self.figure(np.array([part.curves.at(rows) + again * part.stray[:, None] for part in self.parts]))

    def first_kept(self, at_most: float, rows: np.ndarray) -> np.ndarray:
        """The least of these rising numbers of rows at which each draw is at most so much, (draws,); else infinite."""
        kept = self.at(rows) <= at_most
        return np.where(kept.any(1), rows[kept.argmax(1)], np.inf)

    def last_kept(self, at_most: float, rows: np.ndarray) -> np.ndarray:
        """The most of these rising numbers of rows at which each draw is at most so much, (draws,); infinite where that
        is the last of them, 0 where none."""
        kept = self.at(rows) <= at_most
        last = np.where(kept.any(1), rows[::-1][kept[:, ::-1].argmax(1)], 0.0)
        return np.where(kept[:, -1], np.inf, last)


def draw(
    rows: np.ndarray, measured: np.ndarray, resampled: np.ndarray, exponents: tuple[float, ...], seed: int
) -> Drawn:
    """Curves through points whose noise is drawn anew: (n,) rows and values, and (draws, n) values on resampled trips.

    Wild bootstrap (Wu 1986): each point strays from the best curve by what it strayed, with a sign by chance, so that
    small sizes stay noisier than large ones; times sqrt(n / (n - parameters)), since a fit hugs its own points. To
    that comes what the resampled held-out trips change, the same for all points.
    """
    chance = np.random.default_rng(seed)
    best = fit(rows, measured[None], exponents)
    residual = measured - best.at(rows)[0]
    residual *= np.sqrt(len(rows) / max(len(rows) - PARAMETERS[exponents], 1))
    moved = resampled - measured
    sign = chance.choice([-1.0, 1.0], size=resampled.shape)
    curves = fit(rows, np.maximum(best.at(rows) + residual * sign + moved, 0), exponents)
    large = residual[rows >= rows.max() / 2]
    own = chance.choice(large, len(resampled)) * chance.choice([-1.0, 1.0], len(resampled))
    return Drawn(best, curves, own + np.roll(moved[:, rows.argmax()], 1))  # rolled: other trips than the curve's own
