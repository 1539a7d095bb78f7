"""What `firebase deploy` is told, asked of the same server that it asks, offline; and the figures of docs/deploy.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest
import requests
import yaml

from bench import cost
from classifier.variables import MEMORIES
from tests.support.serving import FUNCTIONS, closed_port

ROOT = FUNCTIONS.parent
COMMON = {
    "platform": "gcfv2",
    "cpu": 1,
    "concurrency": 8,
    "timeoutSeconds": 60,
    "minInstances": 0,
    "maxInstances": 10,
}
OURS = ("MODEL_", "ACCESS", "UPLOAD_", "FUNCTION_", "RATE_LIMIT", "GOOGLE_", "GCLOUD_", "FIREBASE_")


def manifest(**env: str) -> dict[str, Any]:
    """The endpoints, by name, as the Firebase CLI discovers them; it gives the server 10 seconds."""
    port = closed_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    process = subprocess.Popen(
        [sys.executable, "-m", "firebase_functions.private.serving"],
        cwd=FUNCTIONS,
        env={**inherited, "ADMIN_PORT": str(port), **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while True:
            try:
                reply = requests.get(f"http://127.0.0.1:{port}/__/functions.yaml", timeout=10)
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() < until, "the manifest was not served"
                time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert reply.status_code == 200, reply.text
    return dict(yaml.safe_load(reply.text)["endpoints"])


def common(endpoint: dict[str, Any]) -> dict[str, Any]:
    return {name: endpoint[name] for name in COMMON}


def test_what_deploys_by_default() -> None:
    config = json.dumps({"projectId": "demo-pointer", "storageBucket": "demo-pointer.firebasestorage.app"})
    endpoints = manifest(FIREBASE_CONFIG=config)
    assert set(endpoints) == {"predict", "classify", "on_upload"}
    for name, endpoint in endpoints.items():
        assert common(endpoint) == COMMON, name
        assert (endpoint["availableMemoryMb"], endpoint["region"]) == (512, ["us-central1"]), name
        assert endpoint["entryPoint"] == name
        assert not endpoint["secretEnvironmentVariables"] and not endpoint["serviceAccountEmail"]
    assert endpoints["predict"]["httpsTrigger"] == {}
    assert endpoints["classify"]["callableTrigger"] == {} and "httpsTrigger" not in endpoints["classify"]
    assert endpoints["on_upload"]["eventTrigger"] == {
        "eventType": "google.cloud.storage.object.v1.finalized",
        "eventFilters": {"bucket": "demo-pointer.firebasestorage.app"},
        "retry": True,
    }


def test_what_the_settings_change() -> None:
    account = "pointer-serving@demo-pointer.iam.gserviceaccount.com"
    endpoints = manifest(
        FUNCTION_MEMORY="2048",
        FUNCTION_LOCATION="europe-west1",
        FUNCTION_ACCOUNT=account,
        FUNCTION_SECRETS="RATE_LIMIT_STORE",
        UPLOAD_BUCKET="photos-of-ours",
    )
    for name, endpoint in endpoints.items():
        assert common(endpoint) == COMMON, name
        assert (endpoint["availableMemoryMb"], endpoint["region"]) == (2048, ["europe-west1"]), name
        assert endpoint["serviceAccountEmail"] == account
    for name in ("predict", "classify"):
        assert [each["key"] for each in endpoints[name]["secretEnvironmentVariables"]] == ["RATE_LIMIT_STORE"]
    assert not endpoints["on_upload"]["secretEnvironmentVariables"]
    assert endpoints["on_upload"]["eventTrigger"]["eventFilters"] == {"bucket": "photos-of-ours"}


def test_a_project_without_a_bucket_deploys_the_rest() -> None:
    assert set(manifest()) == {"predict", "classify"}


def test_firebase_json_names_what_there_is() -> None:
    config = json.loads((ROOT / "firebase.json").read_text())
    (functions,) = config["functions"]
    assert functions["runtime"] == f"python{sys.version_info.major}{sys.version_info.minor}"
    assert (ROOT / functions["source"] / "main.py").is_file()
    (rewrite,) = config["hosting"]["rewrites"]
    # Without a region the CLI takes that of the function, which is a setting.
    assert rewrite == {"source": "/api/**", "function": {"functionId": "predict"}}
    assert {"auth", "functions", "hosting"} <= set(config["emulators"])


def test_the_lock_of_npm_names_no_host() -> None:
    lock = (ROOT / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    wanted = json.loads((ROOT / "package.json").read_text())["devDependencies"]["firebase-tools"]
    assert packages["node_modules/firebase-tools"]["version"] == wanted
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all("integrity" in package for name, package in packages.items() if name and not package.get("inBundle"))


# Costs


def test_the_table_of_the_docs_is_what_the_formula_gives() -> None:
    assert cost.table() in (ROOT / "docs/deploy.md").read_text()


def test_the_docs_tell_the_unit_prices() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    for price in (f"${cost.CPU_SECOND:.6f}", f"${cost.GIB_SECOND:.7f}", f"${cost.REQUEST * 1e6:.2f}"):
        assert price in text
    for free in (cost.FREE_CPU_SECONDS, cost.FREE_GIB_SECONDS, cost.FREE_REQUESTS):
        assert f"{free:,}" in text


@pytest.mark.parametrize(
    ("predictions", "instance", "dollars"),
    [
        (2_000_000, cost.Instance(0.5, 1, 0.05), 0.0),
        # (1,000,000 - 180,000) x 0.000024 + (500,000 - 360,000) x 0.0000025 + 8,000,000 x 0.0000004
        (10_000_000, cost.Instance(0.5, 1, 0.1), 19.68 + 0.35 + 3.2),
        # (10,000,000 - 180,000) x 0.000024 + (10,000,000 - 360,000) x 0.0000025 + 3.2
        (10_000_000, cost.Instance(1, 1, 1.0), 235.68 + 24.10 + 3.2),
    ],
)
def test_the_formula(predictions: int, instance: cost.Instance, dollars: float) -> None:
    assert cost.dollars(predictions, instance) == pytest.approx(dollars)


def test_memories_that_are_priced_can_be_set() -> None:
    assert {str(int(instance.memory * 1024)) for instance in cost.INSTANCES} <= set(MEMORIES)
