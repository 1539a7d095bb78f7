"""What deploys is complete: `functions/` alone serves, without the training libraries anywhere near it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.support.encoded_photos import saved
from tests.support.serving import FUNCTIONS, photo_bytes, publish, serve

TRAINING = {"tensorflow", "keras", "pandas", "sklearn", "matplotlib", "keras_tuner", "torch", "jax"}
HEAVY = {"numpy", "PIL", "ai_edge_litert", "google.cloud.storage"}

# Loaded by Python itself in every process of the server: a worker says on request what it has imported.
PROBE = """
import os, pathlib, sys, threading, time

def report():
    asked, told = pathlib.Path(os.environ["PROBE"], "ask"), pathlib.Path(os.environ["PROBE"], "told")
    while not asked.exists():
        time.sleep(0.02)
    import classifier
    prepared = told.with_suffix(".part")
    prepared.write_text("\\n".join([classifier.__file__, *sorted(sys.modules)]))
    prepared.rename(told)

os.register_at_fork(after_in_child=lambda: threading.Thread(target=report, daemon=True).start())
"""


def test_functions_serve_from_an_empty_folder_without_training_libraries(tmp_path: Path, tiny_bundle: Path) -> None:
    publish(tmp_path / "store", tiny_bundle)
    alone = tmp_path / "alone" / "functions"
    shutil.copytree(FUNCTIONS, alone, ignore=shutil.ignore_patterns("__pycache__", "venv"))
    probe = tmp_path / "probe"
    probe.mkdir()
    (probe / "sitecustomize.py").write_text(PROBE)
    path = os.pathsep.join([str(alone), str(probe)])
    serving = serve(tmp_path / "store", tmp_path / "elsewhere", functions=alone, PYTHONPATH=path, PROBE=str(probe))
    with serving as server:
        reply = server.post("/?gradcam=1", files={"image": photo_bytes()})
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"]["version"] == "v1"
        assert "<title>" in server.get("/").text
        assert server.get("/openapi.yaml").ok
        (probe / "ask").touch()
        until = time.monotonic() + 10
        while not (probe / "told").exists():
            assert time.monotonic() < until, "the worker did not say what it has imported"
            time.sleep(0.02)
        assert server.post(files={"image": saved("HEIC")}).status_code == 200
    package, *modules = (probe / "told").read_text().splitlines()
    assert Path(package).is_relative_to(alone)
    assert {"classifier.serving.model", "ai_edge_litert.interpreter"} <= set(modules)
    assert not (TRAINING | {"pillow_heif"}) & {name.partition(".")[0] for name in modules}  # after a JPEG


def test_no_file_imports_what_is_not_deployed() -> None:
    files = sorted(FUNCTIONS.rglob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file} imports relative to itself"
                names = [node.module or ""]
            roots = {name.partition(".")[0] for name in names}
            assert not roots & (TRAINING | {"trainer", "admin_cli"}), f"{file} imports {roots}"


def test_importing_main_imports_nothing_heavy_and_is_quick(tmp_path: Path) -> None:
    program = (
        "import sys, time; start = time.process_time(); import main; took = time.process_time() - start\n"
        "print(took, main.predict.__firebase_endpoint__.availableMemoryMb, *sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(FUNCTIONS)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    took, memory, *modules = done.stdout.split()
    assert not HEAVY & set(modules)
    assert float(took) < 2.0
    assert memory == "512"


@pytest.mark.parametrize(("function", "methods"), [("predict", ["GET", "POST"]), ("classify", ["POST"])])
def test_a_process_that_answers_http_does_without_firebase_and_answers_the_same(
    tmp_path: Path, function: str, methods: list[str]
) -> None:
    """`firebase_functions` is for discovery and events; what it adds to a reply, CORS, is the same without it."""
    program = (
        "import sys\n"
        "if sys.argv[1] == 'whole': import firebase_functions\n"
        "import functions_framework, json, os\n"
        f"client = functions_framework.create_app({function!r}, {str(FUNCTIONS / 'main.py')!r}).test_client()\n"
        "asked = {'Origin': 'https://app.example', 'Access-Control-Request-Method': 'POST', 'X-Request-Id': 'x'}\n"
        f"replies = [client.open('/', method=method, headers=asked) for method in ['OPTIONS', *{methods!r}]]\n"
        "for reply in replies: reply.headers.pop('Date', None)\n"
        "print(json.dumps([[reply.status_code, sorted(reply.headers), reply.text] for reply in replies]))\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, 'THREADS=' + os.environ['THREADS'])"
    )
    told, modules = {}, {}
    for form in ("whole", "lean"):
        environment = {
            **os.environ, "PYTHONPATH": str(FUNCTIONS), "MODEL_STORE": "none", "CORS_ORIGINS": "https://app.example"
        }  # fmt: skip
        command = [sys.executable, "-c", program, form]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        *_, replies, names = done.stdout.splitlines()
        told[form], modules[form] = json.loads(replies), set(names.split())
    assert told["lean"] == told["whole"]
    assert all(["Access-Control-Allow-Origin", "https://app.example"] in headers for _, headers, _ in told["lean"])
    assert "THREADS=12" in modules["lean"]  # read by the framework after this; more than `concurrency`
    assert not modules["lean"] & {"firebase_functions", "firebase_admin"} and "firebase_admin" in modules["whole"]


def test_the_deployment_is_discovered_offline(tmp_path: Path) -> None:
    """The Firebase CLI asks this server what to deploy, and gives it 10 seconds."""
    from tests.support.serving import closed_port

    port = closed_port()
    environment = {**os.environ, "PYTHONPATH": str(FUNCTIONS), "ADMIN_PORT": str(port)}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "firebase_functions.private.serving"],
        cwd=FUNCTIONS,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                manifest = requests.get(f"http://127.0.0.1:{port}/__/functions.yaml", timeout=5)
                break
            except requests.ConnectionError:
                assert time.monotonic() - started < 10
                time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    import yaml

    endpoint = yaml.safe_load(manifest.text)["endpoints"]["predict"]
    assert endpoint["httpsTrigger"] == {}
    assert (endpoint["availableMemoryMb"], endpoint["cpu"], endpoint["concurrency"]) == (512, 1, 8)
    assert (endpoint["region"], endpoint["timeoutSeconds"]) == (["us-central1"], 60)


def test_the_pinned_requirements_are_what_the_tests_ran_with() -> None:
    from importlib.metadata import version

    lines = (FUNCTIONS / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert len(pins) == 17
    assert {name: version(name) for name in pins} == pins
