"""Bundles from a store behind a URL: a real file server over a socket, away, lying or slow at will."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contracts.bundle import CHECKSUMS, FILES, digest
from serving.bundles import LARGEST_FILE_BYTES, Batch, BundleRefused, load
from serving.conductor import StoreAway
from serving.store import Directory, NoStoreLibrary, Remote, open_store
from serving.watchdog import Watch
from tests.bundles import a_trip, make_bundle
from tests.servers import free_port


class Handler(SimpleHTTPRequestHandler):
    """Python's own file server; it counts what is asked of it and can answer too much, or nothing."""

    server: FileServer

    def do_GET(self) -> None:
        if self.server.silent.is_set():
            self.server.silent_over.wait(10)
        self.server.asked.append(self.path)
        if self.path in self.server.endless:
            self.do_HEAD()
            while True:
                self.wfile.write(bytes(2**20))
        super().do_GET()

    def do_HEAD(self) -> None:
        if self.path in self.server.endless:  # a length is not told
            self.send_response(200)
            self.end_headers()
        else:
            super().do_HEAD()

    def log_message(self, *_told: object) -> None:
        """Nothing: pytest's output is for its own."""


class FileServer(ThreadingHTTPServer):
    """Serves a folder."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), partial(Handler, directory=str(folder)))
        self.asked: list[str] = []
        self.endless: set[str] = set()
        self.silent, self.silent_over = threading.Event(), threading.Event()

    def handle_error(self, *_told: object) -> None:
        """A client that goes away in the middle is what these tests are about."""


@dataclass
class Warehouse:
    """A folder behind a file server that can be closed and opened again at the same address."""

    folder: Path
    port: int = field(default_factory=free_port)
    server: FileServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/bundles"

    def open(self) -> FileServer:
        self.server = FileServer(self.folder, self.port)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self.server

    def close(self) -> None:
        if self.server is not None:
            self.server.silent_over.set()
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture
def warehouse(tmp_path) -> Iterator[Warehouse]:
    (tmp_path / "served" / "bundles").mkdir(parents=True)
    house = Warehouse(tmp_path / "served")
    house.open()
    yield house
    house.close()


@pytest.fixture
def store(warehouse, tmp_path) -> Remote:
    return Remote(warehouse.url, tmp_path / "cache", limit_s=10)


def made(warehouse: Warehouse, version: str = "1", **how: object) -> Path:
    return make_bundle(warehouse.folder / "bundles", version, **how)


def refused(store: Remote | Directory, version: str = "1") -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        store.fetch(version)
    return caught.value


def in_cache(store: Remote) -> list[str]:
    return sorted(path.name for path in store.cache.iterdir()) if store.cache.is_dir() else []


def test_a_bundle_comes_over_the_wire_and_serves(warehouse, store):
    folder = made(warehouse)
    bundle = load(store.fetch("1"), "1", digest(folder / CHECKSUMS), Watch())
    assert bundle.answer(Batch([a_trip()]))[0].minutes[1] == pytest.approx(11, abs=0.001)
    assert in_cache(store) == ["1"]


def test_only_files_that_the_checksums_name_are_copied_and_each_once(warehouse, store):
    (made(warehouse) / "more.bin").write_bytes(b"not listed")
    store.fetch("1")
    store.fetch("1")
    gets = [path.rpartition("/")[2] for path in warehouse.server.asked]
    assert sorted(set(gets)) == sorted([*FILES, CHECKSUMS])
    before = len(gets)
    Remote(warehouse.url, store.cache).fetch("1")  # as a process that starts again
    assert len(warehouse.server.asked) == before


def test_a_store_that_is_away_is_told_as_such_and_asked_again(warehouse, store):
    made(warehouse)
    warehouse.close()
    error = refused(store)
    assert error.stage == "store"
    assert warehouse.url in str(error)
    assert "tries again" in str(error)
    assert in_cache(store) == []
    warehouse.open()
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"


def test_what_serves_is_loaded_without_the_store(warehouse, store):
    made(warehouse)
    store.fetch("1")
    warehouse.close()
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"


def test_a_store_that_says_nothing_costs_its_limit_and_no_more(warehouse, tmp_path):
    made(warehouse)
    warehouse.server.silent.set()
    began = time.monotonic()
    error = refused(Remote(warehouse.url, tmp_path / "cache", limit_s=0.3))
    assert (error.stage, "no answer within 0.3 s" in str(error)) == ("store", True), str(error)
    assert time.monotonic() - began < 3


def test_half_an_upload_is_not_yet_there_and_then_it_is(warehouse, store):
    folder = made(warehouse)
    (folder / "golden.json").rename(warehouse.folder / "late")
    error = refused(store)
    assert (error.stage, "golden.json" in str(error)) == ("store", True), str(error)
    assert in_cache(store) == []
    (warehouse.folder / "late").rename(folder / "golden.json")
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"


def test_a_copy_that_went_bad_is_copied_anew(warehouse, store):
    made(warehouse)
    copy = store.fetch("1") / "1"
    (copy / "model.onnx").write_bytes(b"rot")
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"
    (copy / "card.md").unlink()
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"


def test_a_file_that_was_cut_on_its_way_up_is_refused_by_its_checksum_and_taken_once_it_is_mended(warehouse, store):
    folder = made(warehouse)
    whole = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(whole[:-1])
    with pytest.raises(BundleRefused, match=r"model\.onnx: checksum differs"):
        load(store.fetch("1"), "1", None, Watch())
    (folder / "model.onnx").write_bytes(whole)
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..", "", "a\\b", "more.bin", "model.onnx/../x"])
def test_checksums_that_name_anything_else_are_refused(warehouse, store, name):
    folder = made(warehouse)
    with (folder / CHECKSUMS).open("a") as sums:
        sums.write(f"{'0' * 64}  {name}\n")
    error = refused(store)
    assert (error.stage, repr(name) in str(error)) == ("seal", True), str(error)
    assert in_cache(store) == []


def test_a_file_without_end_is_refused_at_the_limit(warehouse, store):
    made(warehouse)
    warehouse.server.endless.add("/bundles/1/model.onnx")
    error = refused(store)
    assert (error.stage, f"more than {LARGEST_FILE_BYTES} bytes" in str(error)) == ("seal", True), str(error)
    assert in_cache(store) == []


@pytest.mark.parametrize("version", ["../outside", "..", "", "a/b", "x" * 65, ".hidden"])
def test_a_version_cannot_lead_out_of_the_store(warehouse, store, version):
    assert refused(store, version).stage == "seal"
    assert warehouse.server.asked == []


def test_two_workers_that_fetch_at_once_both_get_it_whole(warehouse, tmp_path):
    made(warehouse)
    stores = [Remote(warehouse.url, tmp_path / "cache") for _ in range(4)]
    found: list[str] = []

    def take(store: Remote) -> None:
        found.append(load(store.fetch("1"), "1", None, Watch()).version)

    threads = [threading.Thread(target=take, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["1"] * 4
    assert in_cache(stores[0]) == ["1"]


def test_a_service_lives_through_a_store_that_comes_and_goes(warehouse, place):
    place.upstream.release(made(warehouse))
    with place.serving(bundles_url=warehouse.url) as service:
        service.until_serving(champion="1")
        folder = made(warehouse, "2", minutes_per_km=4.0)
        warehouse.close()
        place.upstream.release(folder)
        service.until(lambda: service.feed("rollout")[-1]["type"] == "bundle.rejected", "2 is rejected")
        assert f"{warehouse.url} does not give it" in service.feed("rollout")[-1]["data"]["reason"]
        assert service.estimate(a_trip()).json()["estimates"][0]["bundle_version"] == "1"
        assert service.control("challenge", version="2").status_code == 409
        warehouse.open()
        assert service.control("challenge", version="2").json()["challenger"] == "2"
    assert not list(place.bundles.iterdir())
    warehouse.close()
    with place.serving(bundles_url=warehouse.url) as service:  # its copies are enough
        assert service.estimate(a_trip()).json()["estimates"][0]["bundle_version"] == "1"
        assert service.rollout()["challenger"] == "2"
    shutil.rmtree(place.var / "serving" / "bundles")
    with pytest.raises(StoreAway, match="does not give it"), place.serving(bundles_url=warehouse.url):
        pass  # it must not conclude that nobody serves
    warehouse.open()
    with place.serving(bundles_url=warehouse.url) as service:
        assert service.rollout()["champion"] == "1"


def test_a_url_without_a_socket_works_as_well(tmp_path):
    make_bundle(tmp_path / "share", "1")
    store = open_store(f"file://{tmp_path}/share", tmp_path / "bundles", tmp_path / "cache")
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"
    assert store.fetch("1") == tmp_path / "cache"


def test_a_directory_is_used_in_place_and_told_when_it_is_away(tmp_path):
    make_bundle(tmp_path / "bundles", "1")
    store = open_store("", tmp_path / "bundles", tmp_path / "cache")
    assert store.fetch("1") == tmp_path / "bundles"
    assert load(store.fetch("1"), "1", None, Watch()).version == "1"
    assert not (tmp_path / "cache").exists()
    shutil.rmtree(tmp_path / "bundles")
    error = refused(store)
    assert (error.stage, "mount or restore it" in str(error)) == ("store", True)


def test_fsspec_is_imported_only_for_a_url_and_its_lack_is_told(monkeypatch, tmp_path):
    code = "import sys, serving.store; print([name for name in ('fsspec', 'aiohttp') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
    monkeypatch.setitem(sys.modules, "fsspec.core", None)  # as where it is not installed
    with pytest.raises(NoStoreLibrary, match="pip install 'tandem-couriers"):
        open_store("http://127.0.0.1:1/bundles", tmp_path, tmp_path)
