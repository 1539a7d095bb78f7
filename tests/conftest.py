"""Fixtures that more than one test file uses: the stores, the Cloud Storage emulator and a tiny real bundle."""

from __future__ import annotations

import tests.support.surroundings  # noqa: F401 - first: what is imported behind it reads the environment

# isort: split
import io
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from rich.console import Console

from classifier.settings import available_cpus
from classifier.storage.cloud import CloudStore
from classifier.storage.json_api import JsonApiStore
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from tests.support.app_client import client, published  # noqa: F401  # fixtures
from tests.support.bundles import confused_bundle, tiny_bundle, tiny_bundle_original  # noqa: F401  # fixtures
from tests.support.contract import ContractClient
from tests.support.processes import SUPPORT

BUCKET = "pointer-tests"
TESTS = Path(__file__).parent
TRAINER = TESTS / "trainer"
LONGEST = (
    "test_pipeline",
    "test_real_data",
    "test_admin_cli_crash",
    "test_compute",
    "test_networks",
    "test_admin_cli",
    "test_report",
    "test_tuning",
    "test_canary",
    "test_training",
)
"""Files that take a quarter of a minute or more: begun first, so that no CPU waits at the end for the last of them."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run two files more than there are CPUs: many tests wait, for processes that start and stores that hang.

    The long ones train and wait less: with two more, the longest would be left alone at the end.
    """
    return available_cpus() + (1 if "real_data" in config.getoption("markexpr").split(" or ") else 2)


def pytest_configure(config: pytest.Config) -> None:
    """Let each of the workers begin to read at another folder, so that one finds compiled what others have read."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and config.args == ["tests"]:
        folders = sorted(str(path) for path in TESTS.iterdir() if path.is_dir())
        begin = int(worker) * len(folders) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        config.args[:] = folders[begin:] + folders[:begin]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those of the trainer, which compute, among the others, which mostly wait.

    `make test` asks xdist to leave the order as it is.
    """
    files: dict[bool, list[Path]] = {True: [], False: []}
    for path in sorted({item.path for item in items}):
        files[TRAINER in path.parents].append(path)
    place = {path: number / len(group) for group in files.values() for number, path in enumerate(group)}
    place.update({path: LONGEST.index(path.stem) - len(LONGEST) for path in place if path.stem in LONGEST})
    items.sort(key=lambda item: (place[item.path], item.path))


@pytest.fixture(scope="session", autouse=True)
def every_reply_is_held_against_the_contract() -> Iterator[None]:
    """Let `Flask.test_client` make clients that check replies; `serving.Serving` does so by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flask, "test_client_class", ContractClient)
        yield


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The URL of a Cloud Storage emulator with the bucket `BUCKET`, a process of its own."""
    program = SUPPORT / "gcs_emulator.py"
    with subprocess.Popen(
        [sys.executable, program, BUCKET], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the emulator ended before it was ready"
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def local_store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def cloud_store(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudStore]:
    """A store under a prefix that no other test has."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    store = CloudStore(BUCKET, f"test/{uuid.uuid4().hex}")
    yield store
    store.close()


@pytest.fixture
def json_api_store(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonApiStore]:
    """The same by plain requests."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    store = JsonApiStore(BUCKET, f"test/{uuid.uuid4().hex}")
    yield store
    store.close()


@pytest.fixture(params=["local", "cloud", "json_api"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each kind of store in turn, empty."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def console() -> Console:
    """A console whose lines nobody reads, wide enough that none is broken."""
    return Console(file=io.StringIO(), width=200)
