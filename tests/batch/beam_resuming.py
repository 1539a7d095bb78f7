"""A labelling that is killed half way, and goes on: what it wrote stays, and nothing is labelled twice.

The one that is killed has two workers, the one that goes on has one, as the undisturbed one has: no row differs.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.labelling import (
    Engine,
    descendants,
    engine_fixture,  # noqa: F401  # a fixture
    job_for,
    label,
    needs_beam,
    rows,
    start,
    wait_until,
)
from tests.support.serving import MODEL, publish

pytestmark = needs_beam
PHOTOS = 600


@pytest.fixture(scope="module", name="place")
def place_fixture(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    """A folder with a store and photos of which each takes some milliseconds to decode."""
    folder = tmp_path_factory.mktemp("resuming")
    publish(folder / "store", tiny_bundle_original)
    (folder / "photos").mkdir()
    contents = [colour_photo(label, size=(500, 400)) for label in TINY_LABELS]
    for number in range(PHOTOS):
        (folder / f"photos/{number:03}.png").write_bytes(contents[number % 4])
    (folder / "photos/cut.png").write_bytes(contents[0][:1000])
    return folder


def test_a_job_that_was_killed_goes_on_and_ends_like_an_undisturbed_one(engine: Engine, place: Path) -> None:
    out, env = place / "killed", {"MODEL_STORE": place / "store", "MODEL_NAME": MODEL}
    process = start(place / "photos", "--out", out, "--workers", "2", **env)
    wait_until(lambda: len(list(out.glob("version=v1/part-*.parquet"))) >= 3)
    started = descendants(process.pid)
    assert len(started) >= 3  # the program, and its two workers
    process.kill()  # only itself: the others have to notice
    process.communicate()
    wait_until(lambda: not any(Path(f"/proc/{each}").is_dir() for each in started))
    before = {path: path.read_bytes() for path in out.glob("version=v1/part-*.parquet")}
    done = rows(out)
    assert 0 < len(done) < PHOTOS

    again = label(place / "photos", "--out", out, "--json", **env).json()
    assert again["listed"]["todo"] == PHOTOS + 1 - len(done)
    assert all(path.read_bytes() == content for path, content in before.items())
    engine.label(job_for(place / "store", place / "photos", place / "undisturbed"))
    assert rows(out) == rows(place / "undisturbed")
    assert not list(out.rglob("_plan/*"))


def test_a_worker_that_dies_ends_the_job_and_what_it_did_stays(place: Path) -> None:
    out, env = place / "died", {"MODEL_STORE": place / "store", "MODEL_NAME": MODEL}
    process = start(place / "photos", "--out", out, "--workers", "2", **env)
    wait_until(lambda: bool(list(out.glob("version=v1/part-*.parquet"))))
    workers = [each for each in descendants(process.pid) if b"sdk_worker_main" in cmdline(each)]
    os.kill(workers[-1], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 6
    assert told.startswith("admin_cli: A worker process died") and told.count("\n") == 1
    wait_until(lambda: not any(Path(f"/proc/{each}").is_dir() for each in workers))
    assert rows(out)


def cmdline(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
