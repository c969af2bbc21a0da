"""Where bundles come from: a directory, or a read-only store behind an fsspec URL, of which bundles are copied here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from contracts.bundle import CHECKSUMS, FILES, BundleError, verify
from contracts.problems import TandemError
from serving.bundles import LARGEST_FILE_BYTES, BundleRefused, check_version, checking
from serving.watchdog import within

CHUNK_BYTES = 2**18


class NoStoreLibrary(TandemError):
    """Bundles shall come from a URL, and what reads URLs is not installed."""


class Store(Protocol):
    """Holds bundles by version."""

    def fetch(self, version: str, seal: str | None = None) -> Path:
        """The folder in which `<version>/` now lies, for `serving.bundles.load`, which checks what is in it. `seal` is
        the digest of its checksums where the caller knows it.

        Raises `BundleRefused`, with stage `store` where the store is away and the same may go well a moment later.
        """


class Directory:
    """A directory of bundles, used in place."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fetch(self, version: str, seal: str | None = None) -> Path:  # noqa: ARG002  as `Store`
        """As `Store`."""
        if not self.root.is_dir():
            raise BundleRefused("store", f"{version}: {self.root} is not there: mount or restore it")
        return self.root


class Remote:
    """Bundles behind a URL that fsspec reads, at `<url>/<version>/`. Each is copied into `cache` once."""

    def __init__(self, url: str, cache: Path, limit_s: float = 60.0) -> None:
        try:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]
        except ImportError as error:
            text = (
                "TANDEM_BUNDLES_URL is set: pip install 'tandem-couriers[store]', and what fsspec needs for its scheme"
            )
            raise NoStoreLibrary(text) from error
        self.url, self.cache, self.limit_s = url, cache, limit_s
        self._files, self._root = url_to_fs(url)

    def fetch(self, version: str, seal: str | None = None) -> Path:
        """As `Store`. A copy that is whole is not copied again, so what serves is loaded without the store, too."""
        with checking("seal", version):
            check_version(version)
        if not _whole(self.cache / version, seal):
            try:
                within(self.limit_s, partial(self._copy, version, seal))
            except BundleError as error:
                raise BundleRefused("seal", f"{version}, seal: {error}") from error
            except Exception as error:  # every file system fails in ways of its own
                text = f"{version}: {self.url} does not give it: {type(error).__name__}: {error}"
                raise BundleRefused("store", f"{text}; the next event or command tries again") from error
        return self.cache

    def _copy(self, version: str, seal: str | None) -> None:
        """Copy a bundle's files, those that its checksums name and no other, and put them in their place as one."""
        self.cache.mkdir(parents=True, exist_ok=True)
        self._files.invalidate_cache()
        with TemporaryDirectory(dir=self.cache, prefix=".") as temporary:
            copy, place = Path(temporary) / version, self.cache / version
            copy.mkdir()
            self._take(copy, CHECKSUMS)
            for name in _listed(copy / CHECKSUMS):
                self._take(copy, name)
            try:
                copy.rename(place)
            except OSError:
                if not _whole(place, seal):  # else another worker was quicker
                    place.rename(Path(temporary) / "rotten")
                    copy.rename(place)

    def _take(self, folder: Path, name: str) -> None:
        with self._files.open(f"{self._root}/{folder.name}/{name}", "rb") as source, (folder / name).open("wb") as copy:
            while part := source.read(CHUNK_BYTES):
                copy.write(part)
                if copy.tell() > LARGEST_FILE_BYTES:
                    raise BundleError(f"{name} has more than {LARGEST_FILE_BYTES} bytes")


def open_store(url: str, directory: Path, cache: Path) -> Store:
    """The store behind a URL, with its copies in `cache`; the directory where there is no URL.

    Raises `NoStoreLibrary`.
    """
    return Remote(url, cache) if url else Directory(directory)


def _listed(checksums: Path) -> set[str]:
    """The files that a bundle's checksums name. Raises `BundleError` where one is none of a bundle's."""
    names = {line.partition("  ")[2] for line in checksums.read_text("utf-8", "replace").splitlines()}
    if strange := names - set(FILES):
        raise BundleError(f"{CHECKSUMS} lists {min(strange)[:100]!r}, which is no file of a bundle")
    return names


def _whole(folder: Path, seal: str | None) -> bool:
    try:
        verify(folder, seal)
    except (BundleError, OSError, ValueError):
        return False
    return True
