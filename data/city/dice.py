"""Chance that is a pure function of seed, purpose and key: the same whoever asks, in whatever batch, however often."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from data.city.times import Floats

Keys = npt.NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys_of(names: Iterable[str]) -> Keys:
    """A 64-bit key per name."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


@lru_cache(maxsize=256)
def _salt(seed: int, purpose: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest(), "little"))


@dataclass(frozen=True, slots=True)
class Dice:
    """SplitMix64 over keys, salted by seed and purpose. Keys may be any whole numbers, shape (n,)."""

    seed: int

    def bits(self, keys: npt.ArrayLike, purpose: str) -> Keys:
        """64 random bits per key."""
        mixed = np.asarray(keys).astype(np.uint64) * _GOLDEN + _salt(self.seed, purpose)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)

    def uniforms(self, keys: npt.ArrayLike, purpose: str) -> Floats:
        """Uniform numbers strictly between 0 and 1."""
        return np.asarray(((self.bits(keys, purpose) >> np.uint64(11)) + 0.5) * 2.0**-53, dtype=np.float64)

    def normals(self, keys: npt.ArrayLike, purpose: str) -> Floats:
        """Standard normal numbers (Box-Muller)."""
        radius = np.sqrt(-2.0 * np.log(self.uniforms(keys, f"{purpose}/radius")))
        return np.asarray(radius * np.cos(2.0 * np.pi * self.uniforms(keys, f"{purpose}/angle")), dtype=np.float64)
