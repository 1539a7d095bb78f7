"""A running function while the pointer moves and while its store fails: nobody is turned away, nothing is kept."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from classifier.registry.bundle import entry_of
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.cloud import CloudStore
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from tests.conftest import BUCKET
from tests.support.fault_proxy import Fault, Proxy, fault_proxy
from tests.support.serving import MODEL, Serving, photo_bytes, publish, serve

CLIENTS = 8
PHOTO = photo_bytes()
WITHIN = 120.0
"""Seconds after which something does not come any more, also on a machine that has much else to do."""


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def promote(store: ObjectStore, version: str) -> None:
    Registry(store, MODEL).promote(version, who="tester", reason="test", replay=golden.replay)


def version_of(serving: Serving) -> str:
    reply = serving.post(data=PHOTO, headers={"Content-Type": "image/jpeg"})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["model"]["version"])


@contextmanager
def clients(serving: Serving, count: int = CLIENTS) -> Iterator[list[tuple[int, str]]]:
    """Clients that ask without a pause meanwhile; the list has each answer's status and version or text."""
    answers: list[tuple[int, str]] = []
    ended = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not ended.is_set():
                try:
                    reply = session.post(serving.url, PHOTO, headers={"Content-Type": "image/jpeg"}, timeout=WITHIN)
                    told = reply.json()["model"]["version"] if reply.status_code == 200 else reply.text
                    answers.append((reply.status_code, told))
                except requests.RequestException as error:
                    answers.append((0, str(error)))

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(ask) for _ in range(count)]
        try:
            yield answers
        finally:
            ended.set()
            for each in running:
                each.result()


def test_promotions_and_rollbacks_under_load_lose_no_request(tmp_path: Path, tiny_bundle: Path) -> None:
    store = tmp_path / "store"
    for number in range(6):
        publish(store, tiny_bundle, promote=number == 0)
    registry = Registry(LocalStore(store), MODEL)
    # On a machine that has much else to do eight clients may wait long for two interpreters: that is no lost request.
    env = {"POINTER_TTL": "0.1", "INTERPRETERS": "2", "INTERPRETER_WAIT": str(WITHIN), "REQUEST_WITHIN": str(WITHIN)}
    with serve(store, tmp_path / "server", **env) as serving, clients(serving) as answers:
        pointed = ["v1"]
        for action in ("v2", "v3", "-", "v4", "v5", "-", "v6"):
            if action == "-":
                entry = registry.rollback(who="tester", reason="test", replay=golden.replay)
            else:
                entry = registry.promote(action, who="tester", reason="test", replay=golden.replay)
            pointed.append(entry.to_version)
            seen = len(answers)
            until(
                lambda seen=seen, wanted=entry.to_version: wanted in {told for _, told in answers[seen:]},  # type: ignore[misc]
                f"{entry.to_version} does not come to serve",
            )
        log = serving.log.read_text()
    assert {status for status, _ in answers} == {200}, [each for each in answers if each[0] != 200][:3]
    assert {told for _, told in answers} == set(pointed)
    assert pointed == ["v1", "v2", "v3", "v2", "v4", "v5", "v4", "v6"]
    assert '"ERROR"' not in log and '"WARNING"' not in log


def private_megabytes(process: int) -> float:
    """What a process and its children share with nobody: shared pages count by how many others happen to run."""
    found, kilobytes = [process], 0
    for each in found:
        found += [
            int(child) for task in Path(f"/proc/{each}/task").glob("*/children") for child in task.read_text().split()
        ]
        lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return kilobytes / 1000


def test_swaps_keep_no_memory(tmp_path: Path, tiny_bundle: Path) -> None:
    """Models of 8 MB: two that were kept would be seen."""
    file = tiny_bundle / "model.tflite"
    content = file.read_bytes() + os.urandom(8_000_000)  # a flatbuffer may be followed by anything
    file.write_bytes(content)
    manifest = Manifest.from_json((tiny_bundle / "manifest.json").read_bytes())
    files = {**manifest.files, file.name: entry_of(content)}
    (tiny_bundle / "manifest.json").write_bytes(replace(manifest, files=files).to_json())
    store = tmp_path / "store"
    for number in range(2):
        publish(store, tiny_bundle, promote=number == 0)
    with serve(store, tmp_path / "server", POINTER_TTL="0.05") as serving:
        assert version_of(serving) == "v1"
        memory = []
        for number in range(16):
            version = f"v{2 - number % 2}"
            promote(LocalStore(store), version)
            until(lambda version=version: version_of(serving) == version, f"{version} does not come to serve")  # type: ignore[misc]
            memory.append(private_megabytes(serving.process.pid))
    assert max(memory[-3:]) < max(memory[2:5]) + 12, memory


@pytest.fixture
def bucket(emulator: str, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> Iterator[CloudStore]:
    """A store in the emulator with v1 promoted and v2 published."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    store = CloudStore(BUCKET, f"test/{uuid.uuid4().hex}")
    registry = Registry(store, MODEL)
    for _ in range(2):
        registry.publish(tiny_bundle, who="tester", replay=golden.replay)
    promote(store, "v1")
    yield store
    store.close()


@pytest.fixture
def proxy(emulator: str) -> Iterator[Proxy]:
    with fault_proxy(emulator) as proxy:
        yield proxy


def test_a_bucket_that_fails_does_not_touch_a_warm_instance(tmp_path: Path, bucket: CloudStore, proxy: Proxy) -> None:
    env = {"STORAGE_EMULATOR_HOST": proxy.url, "POINTER_TTL": "0.1"}
    faults: list[Fault] = ["refuse", "503", "hang"]
    with serve(bucket.url, tmp_path, **env) as serving:
        assert version_of(serving) == "v1"
        with clients(serving, 2) as answers:
            for fault in faults:
                proxy.set(fault)
                seen = len(answers)
                until(
                    lambda seen=seen, fault=fault: len(answers) > seen + 20 and (proxy.requests or fault == "refuse"),  # type: ignore[misc]
                    f"nobody looks at the pointer: {fault}",
                )
            assert serving.get("/model").json()["version"] == "v1"
            promote(bucket, "v2")
            proxy.set("")
            until(lambda: answers[-1] == (200, "v2"), "v2 does not come to serve after the faults")
    assert {status for status, _ in answers} == {200}
    assert {told for _, told in answers} == {"v1", "v2"}


def test_a_cold_instance_does_not_wait_for_ever_for_a_bucket_that_hangs(
    tmp_path: Path, bucket: CloudStore, proxy: Proxy
) -> None:
    proxy.set("hang")
    with serve(bucket.url, tmp_path, STORAGE_EMULATOR_HOST=proxy.url) as serving:
        reply = requests.post(serving.url, files={"image": PHOTO}, timeout=WITHIN)
        assert (reply.status_code, reply.json()["type"]) == (503, "urn:pointer:problem:store-unavailable")
        assert proxy.requests and serving.get("/healthz").ok
        proxy.set("")
        assert version_of(serving) == "v1"


def test_a_folder_that_vanishes_does_not_touch_a_warm_instance(tmp_path: Path, tiny_bundle: Path) -> None:
    store = tmp_path / "store"
    publish(store, tiny_bundle)
    with serve(store, tmp_path / "server", POINTER_TTL="0.05") as serving:
        assert version_of(serving) == "v1"
        store.rename(tmp_path / "gone")

        def missed() -> bool:
            assert version_of(serving) == "v1"
            return "Could not follow the pointer" in serving.log.read_text()

        until(missed, "nobody misses the folder")
        assert serving.get("/model").json()["version"] == "v1"
        (tmp_path / "gone").rename(store)
        publish(store, tiny_bundle)
        until(lambda: version_of(serving) == "v2", "v2 does not come to serve")
        assert "The pointer can be followed again." in serving.log.read_text()


def test_it_ends_while_it_loads(tmp_path: Path) -> None:
    """A store that hangs for ever: nobody ever writes into the pipe that the pointer is."""
    (tmp_path / "store" / MODEL).mkdir(parents=True)
    os.mkfifo(tmp_path / "store" / MODEL / "channels.json")
    with serve(tmp_path / "store", tmp_path / "server") as serving, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(serving.post, files={"image": PHOTO}) for _ in range(2)]
        time.sleep(1)  # both have arrived, or else they are refused, which would be as well
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(15) == 0
        for each in waiting:
            reply = each.result()
            assert (reply.status_code, reply.json()["type"]) == (503, "urn:pointer:problem:overloaded")
            assert reply.headers["Retry-After"] == "1"


def test_it_ends_while_it_looks_at_a_pointer_that_hangs(tmp_path: Path, tiny_bundle: Path) -> None:
    store = tmp_path / "store"
    publish(store, tiny_bundle)
    with serve(store, tmp_path / "server", POINTER_TTL="0") as serving:
        assert version_of(serving) == "v1"
        (store / MODEL / "channels.json").unlink()
        os.mkfifo(store / MODEL / "channels.json")
        for _ in range(5):
            assert version_of(serving) == "v1"
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(15) == 0
