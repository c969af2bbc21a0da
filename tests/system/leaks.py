"""Where a customer's own words turn up outside the product's database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import httpx
import polars as pl


def places_found(words: str, feed_urls: Iterable[str], var: Path, own: str = "product.db") -> list[str]:
    """Feeds, and files below `var` but those of the product's own database, that hold these words."""
    found = [f"feed {url}" for url in feed_urls if words in _everything(url)]
    files = (file for file in sorted(var.rglob("*")) if file.is_file() and not file.name.startswith(own))
    return found + [str(file.relative_to(var)) for file in files if _holds(file, words)]


def _holds(file: Path, words: str) -> bool:
    """Whether a file holds the words; a Parquet file is compressed, so its text columns are read."""
    if file.suffix == ".parquet":
        table = pl.read_parquet(file).select(pl.col(pl.String))
        return any(column.str.contains(words, literal=True).any() for column in table)
    return words.encode() in file.read_bytes()


def _everything(feed_url: str) -> str:
    pages, last = [], 0
    while batch := httpx.get(feed_url, params={"lastEventId": last, "limit": 5000}, timeout=30).json():
        pages.append(str(batch))
        last = int(batch[-1]["id"])
    return "\n".join(pages)
