"""The worker's image, read instead of built: no builder is here."""

from __future__ import annotations

import json
import re

from tests.support.dockerfiles import all_of, ignored, stages
from tests.support.processes import ROOT

DOCKERFILE = ROOT / "batch/Dockerfile"


def test_the_workers_image_has_the_pinned_beam_and_starts_it() -> None:
    pinned = re.search(r"^apache-beam==(.+)$", (ROOT / "requirements-batch.txt").read_text(), re.MULTILINE)[1]
    runtime = json.loads((ROOT / "firebase.json").read_text())["functions"][0]["runtime"]
    python = runtime.removeprefix("python").replace("3", "3.", 1)
    found = stages(DOCKERFILE)
    assert found["sdk"][0] == f"apache/beam_python{python}_sdk:{pinned}"
    assert found["worker"][0] == f"python:{python}-slim"
    instructions = all_of(DOCKERFILE, "worker")
    assert ("RUN", "pip install '.[batch]'") in instructions
    assert instructions[-2:] == [
        ("COPY", "--from=sdk /opt/apache/beam /opt/apache/beam"), ("ENTRYPOINT", '["/opt/apache/beam/boot"]'),
    ]  # fmt: skip


def test_what_it_installs_from_is_in_the_context() -> None:
    for name in (
        "setup.py",
        "requirements-batch.txt",
        "batch/pipeline.py",
        "functions/openapi.yaml",
        "admin_cli/main.py",
    ):
        assert not ignored(name), name
    assert ignored(".venv/bin/python") and ignored("tests/conftest.py")
