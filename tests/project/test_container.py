"""The service's image: read where no engine runs, its command line run as a process, and built where an engine does."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

from classifier.settings import Settings, declarations
from tests.support.bundles import colour_photo
from tests.support.dockerfiles import all_of, copied, environment_of, stages
from tests.support.processes import FUNCTIONS, ROOT
from tests.support.serving import MODEL, closed_port, copy_store

DOCKERFILE = ROOT / "Dockerfile"
BASE = re.compile(r"python:(\d+\.\d+)\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}")
SIGTERM_TO_KILL = 10
"""Seconds that Cloud Run and Docker give."""


def _last(instruction: str) -> str:
    return [rest for name, rest in all_of(DOCKERFILE, "service") if name == instruction][-1]


def test_the_base_is_pinned_and_of_the_project_s_python() -> None:
    ((origin, _),) = stages(DOCKERFILE).values()
    runtime = json.loads((ROOT / "firebase.json").read_text())["functions"][0]["runtime"]
    found = BASE.fullmatch(origin)
    assert found and f"python{found[1].replace('.', '')}" == runtime


def test_it_has_the_function_s_files_and_requirements_and_nothing_else() -> None:
    deployed = {path.name for path in FUNCTIONS.iterdir()} - {"venv", "__pycache__", ".env", ".secret.local", "litert"}
    sources = [source for source, _ in copied(DOCKERFILE)]
    assert sorted(sources) == sorted(f"functions/{name}" for name in deployed if not name.endswith(".egg-info"))
    runs = [rest for name, rest in all_of(DOCKERFILE, "service") if name == "RUN"]
    assert "pip install -r requirements.txt" in runs


def test_nothing_runs_as_root_and_no_shell_stands_between_a_signal_and_the_server() -> None:
    names = [name for name, _ in all_of(DOCKERFILE, "service")]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", _last("USER"))
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])
    assert json.loads(_last("CMD")) == ["functions-framework"]
    assert _last("EXPOSE") == environment_of(all_of(DOCKERFILE, "service"))["PORT"] == "8080"


@contextmanager
def _started(folder: Path, store: Path, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """Lay out what the image has, and start its command line in its environment."""
    for source, target in copied(DOCKERFILE):
        place = folder / (Path(source).name if target == "./" else target)
        (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, place)
    port, log = closed_port(), folder.with_suffix(".log")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    given = {**environment_of(all_of(DOCKERFILE, "service")), "PATH": path, "HOME": "/nonexistent", "PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            json.loads(_last("CMD")), cwd=folder, env={**given, "MODEL_STORE": str(store), "MODEL_NAME": MODEL, **env},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until and not _healthy(port):
            time.sleep(0.05)
        yield process, f"http://127.0.0.1:{port}", log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _healthy(port: int) -> bool:
    """Run the image's health line."""
    command = json.loads(_last("HEALTHCHECK").partition("CMD ")[2])
    command[0] = sys.executable
    run = subprocess.run(command, env={"PORT": str(port)}, capture_output=True, timeout=20)
    return run.returncode == 0


def test_its_command_line_serves_and_ends_cleanly_with_sigterm(published: Path, tmp_path: Path) -> None:
    """As in the image: that folder alone, no home, the port from the environment."""
    store = copy_store(published, tmp_path / "store")
    (tmp_path / "image").mkdir()
    with _started(tmp_path / "image", store) as (process, url, log):
        assert _healthy(int(url.rpartition(":")[2])), log.read_text()
        assert not _healthy(closed_port())
        reply = requests.post(url, files={"image": colour_photo("red")}, timeout=30)
        assert (reply.json()["label"], reply.json()["model"]["version"]) == ("red", "v1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SIGTERM_TO_KILL) == 0
        assert "ERROR" not in log.read_text() and "Traceback" not in log.read_text()
    assert list(store.glob(f"{MODEL}/stats/**/*.json")), "what was counted was not written"


def test_compose_mounts_the_store_so_that_nothing_in_it_can_be_changed() -> None:
    text = (ROOT / "compose.yaml").read_text()
    unset = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    service = unset["services"]["pointer"]
    assert service["build"] == "." and service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["ports"] == ["127.0.0.1:8080:8080"] and service["user"] == _last("USER")
    (mount,) = service["volumes"]
    assert mount["read_only"] is True and mount["bind"] == {"create_host_path": False}
    assert mount["target"] == environment_of(all_of(DOCKERFILE, "service"))["MODEL_STORE"]
    assert mount["source"].removeprefix("./") == Settings.from_env({}).model_store
    known = {each.variable for each in declarations().values()}
    assert set(service["environment"]) <= known
    # Where nothing can be written, nothing is counted and no correction taken, instead of an error for each.
    read = Settings.from_env({name: str(value) for name, value in service["environment"].items()})
    assert read.stats_every == 0 and read.feedback_limit == ""


def test_the_deployments_of_its_page_are_about_this_image() -> None:
    page = (ROOT / "docs/container.md").read_text()
    (manifest,) = re.findall(r"^    (apiVersion: .*?)(?:\n\n\S|\Z)", page, flags=re.DOTALL | re.MULTILINE)
    pod = yaml.safe_load(re.sub(r"^    ", "", manifest, flags=re.MULTILINE))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert str(container["ports"][0]["containerPort"]) == _last("EXPOSE")
    assert container["readinessProbe"]["httpGet"]["path"] == container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}
    known = {each.variable for each in declarations().values()}
    assert {each["name"] for each in container["env"]} <= known
    set_by_gcloud = re.findall(r"--set-env-vars \"?(\S+?)\"?(?:\s|$)", page)
    assert set_by_gcloud and {each.split("=")[0] for line in set_by_gcloud for each in line.split(",")} <= known


def _engine() -> list[str] | None:
    """Return what builds an image here: podman, docker with its daemon, or buildah."""
    for name in ("podman", "docker", "buildah"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, timeout=60).returncode == 0:
            return [name]
    return None


@pytest.mark.long
def test_an_engine_builds_it(tmp_path: Path) -> None:
    """`POINTER_BASE_IMAGE` names another base, where the registry of the pinned one cannot be reached."""
    engine = _engine()
    if engine is None:
        pytest.skip("none of podman, docker and buildah runs here")
    base = os.environ.get("POINTER_BASE_IMAGE", "")
    origin = base or stages(DOCKERFILE)["service"][0]
    local = engine[0] != "docker" and base.startswith("localhost/")
    if not local and subprocess.run([*engine, "pull", origin], capture_output=True, timeout=600).returncode:
        pytest.skip(f"{engine[0]} cannot pull {origin.partition('@')[0]}")
    arguments = ["--build-arg", f"BASE={base}"] if base else []
    tag = "localhost/pointer-test"
    build = subprocess.run(
        [*engine, "build", *arguments, "--tag", tag, "."], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert build.returncode == 0, build.stderr[-2000:]
    look = "import os, sys, main; print(os.getuid(), 'tensorflow' in sys.modules, os.access('.', os.W_OK))"
    try:
        if engine == ["buildah"]:
            made = subprocess.run([*engine, "from", tag], capture_output=True, text=True, check=True).stdout.strip()
            command = [*engine, "run", made, "--", "python", "-c", look]
        else:
            command = [*engine, "run", "--rm", tag, "python", "-c", look]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert run.stdout.split() == ["1000", "False", "False"], run.stderr[-2000:]
        if engine == ["buildah"]:
            subprocess.run([*engine, "rm", made], capture_output=True, check=True)
    finally:
        subprocess.run([*engine, "rmi", tag], capture_output=True)


def test_the_commands_at_its_head_are_about_it() -> None:
    head = DOCKERFILE.read_text().partition("ARG")[0]
    assert all(command in head for command in ("docker compose up", "docker build -t pointer .", "gcloud run deploy"))
    assert all(shlex.split(line.lstrip("# ")) for line in head.splitlines() if line.startswith("#     docker"))
