"""The whole loop with real processes: a version that is wrong, corrections, retraining, gate, canary, production."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import photo_sets
from tests.support.processes import environment
from tests.support.serving import MODEL, Serving, serve

BIN = Path(sys.executable).parent
PURPLE = (150, 40, 190)
"""A colour that no photo of training has. The first version takes it for the sky; users say that it is an apple."""
CALLERS = [f"10.2.0.{number}" for number in range(1, 41)]


def run(folder: Path, program: str, *arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        [BIN / program, *map(str, arguments)],
        cwd=folder,
        env={**environment(), "MODEL_STORE": str(folder / "store"), "MODEL_NAME": MODEL, "POINTER_WHO": "kim"},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == code, (done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def purple(folder: Path, start: int, count: int) -> list[bytes]:
    paths = [folder / f"{number}.jpg" for number in range(start, start + count)]
    for number, path in enumerate(paths, start):
        photo_sets.write_photo(path, PURPLE, 50_000 + number)
    return [path.read_bytes() for path in paths]


def ask(function: Serving, photo: bytes, caller: str) -> dict:
    reply = function.post(data=photo, headers={"Content-Type": "image/jpeg", "X-Forwarded-For": caller})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.long
def test_a_version_that_is_wrong_is_corrected_retrained_and_rolled_out(tmp_path: Path) -> None:
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    photos = photo_sets.food_101(tmp_path / "photos", train=20, test=10)
    run(
        tmp_path, "trainer", "train", "--dataset", "food-101", "--data-dir", photos, "--architecture", "base_cnn",
        "--weights", "none", "--image-size", "32", "--fine-tune-epochs", "12", "--batch-size", "8", "--no-report",
        "--validation-share", "0.3",
        "--run", "runs/first",
    )  # fmt: skip
    run(tmp_path, "admin_cli", "publish", "runs/first")
    run(tmp_path, "admin_cli", "promote", "v1")
    nothing = subprocess.run(
        [BIN / "admin_cli", "retrain"], cwd=tmp_path, capture_output=True, text=True, timeout=170,
        env={**os.environ, "MODEL_STORE": str(tmp_path / "store"), "MODEL_NAME": MODEL},
    )  # fmt: skip
    assert nothing.returncode == 5
    assert "No photo and no label has changed" in nothing.stderr

    told, asked = purple(tmp_path / "told", 0, 16), purple(tmp_path / "asked", 100, 10)
    # One is about a photo that measures versions: nothing may learn from it, and that is told.
    measured = next(each for each in (photos / "meta/test.txt").read_text().split() if each.startswith("apple/"))
    told.append((photos / f"images/{measured}.jpg").read_bytes())
    settings = {"POINTER_TTL": "0.2", "STATS_EVERY": "0.5", "TRUSTED_PROXIES": "1"}
    with serve(tmp_path / "store", tmp_path / "serving", **settings) as function:
        before = [ask(function, photo, CALLERS[0])["label"] for photo in asked]
        assert before.count("apple") <= 2, before
        for photo in told:
            said = ask(function, photo, CALLERS[0])
            seen = {"version": said["model"]["version"], "label": said["label"], "confidence": said["confidence"]}
            image = base64.b64encode(photo).decode()
            correction = {"label": "apple", "image": image, "consent": True, "seen": seen}
            assert function.post("/feedback", json=correction).status_code == 201

        rows = json.loads(run(tmp_path, "admin_cli", "feedback", "list", "--json"))
        assert len(rows) == len(told)
        run(tmp_path, "admin_cli", "feedback", "accept", *(each["id"] for each in rows))
        # The same recipe, on the corrections besides; compared on the same test photos; half of the callers get it.
        said = run(tmp_path, "admin_cli", "retrain", "--feedback", "--canary", "50")
        assert "16 of 17 corrections are trained on\n" in said
        lost = next(each["id"] for each in rows if each["photo_sha256"] == hashlib.sha256(told[-1]).hexdigest())
        why = f"not on {lost}.jpg: same bytes as images/{measured}.jpg, which is in test"
        assert why in " ".join(said.split())
        assert "apple: 16 added" in said
        assert "the gate lets v2 pass" in said
        assert "v2 is the canary, for 50 % of the callers" in said

        answers: dict[str, str] = {}
        end = time.monotonic() + 30
        while set(answers.values()) != {"production", "canary"}:
            assert time.monotonic() < end, answers
            answers |= {each: ask(function, asked[0], each)["model"]["channel"] for each in CALLERS}
        run(tmp_path, "admin_cli", "canary", "promote", "--reason", "purple apples")
        end = time.monotonic() + 30
        while {ask(function, asked[0], each)["model"]["version"] for each in CALLERS} != {"v2"}:
            assert time.monotonic() < end
        after = [ask(function, photo, CALLERS[0])["label"] for photo in asked]
        assert after.count("apple") >= 8, after

    history = json.loads(run(tmp_path, "admin_cli", "history", "--json"))
    assert [(each["action"], each["to"]) for each in reversed(history)] == [
        ("promote", "v1"), ("canary start", "v2"), ("promote", "v2"),
    ]  # fmt: skip
    shown = json.loads(run(tmp_path, "admin_cli", "show", "v2", "--json"))
    assert shown["parent_version"] == "v1"
    assert len(shown["data"]["corrections"]) == 16
    assert set(shown["data"]["corrections"]) == {each["id"] for each in rows} - {lost}
    assert shown["data"]["photos"]["test"] == 30
    assert str(tmp_path) not in json.dumps(shown)
    # And on from there.
    again = run(tmp_path, "admin_cli", "retrain", "--from", "v2", "--force", "--set", "fine_tune_epochs=2")
    assert "going on from" in again  # with the corrections that v2 has learnt
    assert "published v3" in again
    # Seconds of processors, which do not depend on what else runs here.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used.ru_utime + used.ru_stime - begun.ru_utime - begun.ru_stime < 180
