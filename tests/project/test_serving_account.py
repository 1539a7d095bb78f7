"""deploy/serving_account.sh, with a `gcloud` that writes down what it is told: the real one needs a cloud project."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT

GCLOUD = """#!/bin/bash
echo "$*" >> "$TOLD"
[[ $* != *" describe "* ]] || exit $MISSING
"""
ACCOUNT = "pointer-serving@my-pointer.iam.gserviceaccount.com"
SETTINGS = {
    "MODEL_STORE": "gs://my-models/models",
    "MODEL_NAME": "food",
    "RATE_LIMIT": "60/minute",
    "FUNCTION_ACCOUNT": ACCOUNT,
    "FUNCTION_LOCATION": "us-central1",
}


@pytest.fixture(name="checkout")
def checkout_fixture(tmp_path: Path) -> Path:
    for folder in ("deploy", "functions", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "deploy/serving_account.sh", tmp_path / "deploy")
    (tmp_path / "bin/gcloud").write_text(GCLOUD)
    (tmp_path / "bin/gcloud").chmod(0o755)
    return tmp_path


def run(checkout: Path, missing: int = 1, **settings: str) -> tuple[int, str, list[str]]:
    """Exit code, what was said on standard error, and what gcloud was told."""
    told = checkout / "told"
    told.write_text("")
    environment = {"PATH": f"{checkout / 'bin'}:{os.defpath}", "TOLD": str(told), "MISSING": str(missing), **settings}
    command = ["bash", "deploy/serving_account.sh"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr, told.read_text().splitlines()


def written(checkout: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (checkout / "functions/.env").read_text().splitlines())


def test_the_account_reads_and_adds_and_nothing_else(checkout: Path) -> None:
    code, said, told = run(checkout, PROJECT="my-pointer", MODEL_STORE="gs://my-models/models")
    assert (code, said) == (0, "")
    _, create, *grants = told
    assert create.startswith("iam service-accounts create pointer-serving --project=my-pointer ")
    assert [line.split() for line in grants] == [
        ["storage", "buckets", "add-iam-policy-binding", "gs://my-models", f"--member=serviceAccount:{ACCOUNT}",
         f"--role=roles/storage.{role}", "--condition=None"]
        for role in ("objectViewer", "objectCreator")
    ]  # fmt: skip
    assert written(checkout) == SETTINGS


def test_it_can_be_run_again(checkout: Path) -> None:
    settings = {"PROJECT": "my-pointer", "MODEL_STORE": "gs://my-models/models", "REGION": "europe-west1"}
    assert run(checkout, **settings)[0] == 0
    code, said, told = run(checkout, missing=0, **settings)
    assert (code, said) == (0, "")
    assert not any("create" in line for line in told)
    assert written(checkout)["FUNCTION_LOCATION"] == "europe-west1"


def test_settings_that_are_there_stay(checkout: Path) -> None:
    (checkout / "functions/.env").write_text("ACCESS=auth\n")
    code, said, _ = run(checkout, PROJECT="my-pointer", MODEL_STORE="gs://my-models/models", MODEL_NAME="dogs")
    assert code == 1
    assert "functions/.env is there already" in said and "MODEL_NAME=dogs" in said
    assert (checkout / "functions/.env").read_text() == "ACCESS=auth\n"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"MODEL_STORE": "gs://my-models/models"}, "export PROJECT=my-pointer"),
        ({"PROJECT": "my-pointer"}, "export MODEL_STORE=gs://my-pointer-models/models"),
        ({"PROJECT": "my-pointer", "MODEL_STORE": ".model-store"}, "has to be gs://BUCKET/PREFIX, and is .model-store"),
        ({"PROJECT": "my-pointer", "MODEL_STORE": "gs://my-models"}, "has to be gs://BUCKET/PREFIX"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_asked(
    checkout: Path, settings: dict[str, str], expected: str
) -> None:
    code, said, told = run(checkout, **settings)
    assert code != 0 and expected in said and told == []
    assert not (checkout / "functions/.env").exists()


def test_a_refusal_of_the_cloud_writes_no_settings(checkout: Path) -> None:
    (checkout / "bin/gcloud").write_text("#!/bin/bash\necho 'PERMISSION_DENIED' >&2\nexit 1\n")
    code, said, _ = run(checkout, PROJECT="my-pointer", MODEL_STORE="gs://my-models/models")
    assert code == 1 and "PERMISSION_DENIED" in said
    assert not (checkout / "functions/.env").exists()
