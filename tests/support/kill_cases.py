"""A place where every command that changes something can be killed: a store, photos, runs, and a trainer's stand-in."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from classifier.registry.manifest import Manifest
from classifier.storage.local import LocalStore
from classifier.traffic.corrections import Correction, Seen
from classifier.traffic.counts import Counts, Row
from classifier.traffic.feedback import Feedback
from classifier.traffic.spans import Span
from tests.support.bundles import TINY_LABELS, colour_photo, files_of
from tests.support.commands import Done
from tests.support.retraining import RECIPE
from tests.support.serving import MODEL

TRAINER = """#!{python} -ES
import os, shutil, sys
run, parent = (sys.argv[sys.argv.index(name) + 1] for name in ("--run", "--parent"))
if parent != "v4":
    sys.stderr.write("trainer: No photo and no label has changed.\\n")
    sys.exit(5)
shutil.copytree("new", run + "/bundle.partial")
os.rename(run + "/bundle.partial", run + "/bundle")
"""
PHOTOS = {"green": colour_photo("green"), "red": colour_photo("red")}
SAID = {
    name: Correction.make(label, photo=PHOTOS[photo], seen=Seen("v4", "production", "blue", 0.9, "ok"))
    for name, label, photo in (("a", "green", "green"), ("b", "lime", "green"), ("c", "red", "red"))
}
"""Corrections; two of them are of one photo."""
GREEN = str(SAID["a"].photo_sha256)
Make = Callable[..., Done]
NO_CANARY, NO_SHADOW = "There is no canary", "There is no shadow"


class Case(NamedTuple):
    """A command."""

    arguments: str
    place: str = "plain"
    """Where it is run: see `prepare`."""
    code: int = 0
    done: str = ""
    """What it says where it has nothing to do any more, with another exit code; "" where it ends as before."""
    several: bool = False
    """Whether it changes several things, one after the other: each is as before or as after."""


A, B = SAID["a"].id, SAID["b"].id
CASES = {
    "promote": Case("promote v5 --reason new"),
    "rollback": Case("rollback --reason old", done="there is none"),
    "canary start": Case("canary start v5 --percent 25"),
    "canary percent": Case("canary start v5 --percent 50", "canary"),
    "canary promote": Case("canary promote --reason good", "canary", done=NO_CANARY),
    "canary abort": Case("canary abort --reason slow", "canary", done=NO_CANARY),
    "watch raises": Case("canary watch --once --for 1m --steps 10,50", "canary"),
    "watch promotes": Case("canary watch --once --for 1m --steps 5,10 --promote", "canary", done=NO_CANARY),
    "watch aborts": Case("canary watch --once --for 1m", "bad canary", 5, NO_CANARY),
    "shadow start": Case("shadow start v5 --sample 0.5"),
    "shadow change": Case("shadow start v5 --sample 0.5 --keep-photos", "shadow"),
    "shadow stop": Case("shadow stop", "shadow", done=NO_SHADOW),
    "shadow to canary": Case("canary start v5", "shadow"),
    "gate set": Case("gate set top_1_drop=0.02 class-drop=0.3 --reason more"),
    "accept": Case(f"feedback accept {A} {B} --label green --reason seen", several=True),
    "reject": Case(f"feedback reject {A} --reason no", "decided"),
    "forget one": Case(f"feedback forget {A}", "decided", done="Expected the id of a correction"),
    "forget a photo": Case(f"feedback forget {GREEN}", "decided", done="Expected the SHA-256", several=True),
    "export": Case("feedback export out", "exported"),
    "retrain": Case("retrain --data-dir photos --feedback --run runs/new --canary 10", "decided", several=True),
    "retrain and promote": Case(
        "retrain --data-dir photos --run runs/new --promote", done="No photo and no label has changed", several=True
    ),
    "prune": Case("prune --keep 1 --reason room", several=True),
    "compact": Case("status --compact", "counted"),
    "pull": Case("pull v5 --out pulled"),
    "pull over another": Case("pull v5 --out pulled", "pulled"),
    "open": Case("open v5 --out opened"),
}
PUBLISH = Case("publish new")
"""Apart: a number that was taken in vain is left out, and the next one is published."""
READING = {
    "list": "reads", "show": "reads", "verify": "reads", "compare": "reads, and writes the page that --html names",
    "history": "reads", "predict": "reads, and writes the overlay that --gradcam names", "doctor": "reads",
    "models": "reads", "gate show": "reads", "shadow report": "reads", "feedback list": "reads",
    "feedback show": "reads, and writes the page that --html names",
    "import": "the trainer writes its run; publishes as `publish` does",
    "label": "Apache Beam's program writes; tests/batch/beam_resuming.py kills that",
    "relabel-diff": "reads, and writes the page that --html names",
}  # fmt: skip
"""The commands that change no store, each with what it does."""


def enter(place: Path) -> None:
    """Let this process work in a place, of which the environment's MODEL_STORE is the store."""
    os.chdir(place)
    os.environ.update(MODEL_STORE=str(place / "store"), MODEL_NAME=MODEL, POINTER_WHO="kim", PATH=str(place / "bin"))
    sys.argv[0] = str(place / "bin/admin_cli")


def few_files(bundle: Path, *, created_at: str, more: dict[str, str]) -> Path:
    """Leave a bundle the files without which it cannot be published, and these: there is much to be killed."""
    for file in bundle.rglob("*"):
        if file.is_file() and file.name not in ("manifest.json", "model.tflite", "0.png"):
            file.unlink()
    for name, text in more.items():
        (bundle / name).write_text(text)
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in files_of(bundle).items()}
    manifest |= {"files": files, "golden": manifest["golden"][:1], "training": RECIPE, "created_at": created_at}
    Manifest.from_json(json.dumps(manifest).encode())
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def make_place(cli: Make, bundle: Path, place: Path) -> Path:
    """A store with v1 to v5, of which v3 served and v4 serves, with corrections; and what a retraining needs."""
    shutil.copytree(bundle, place / "old")
    few_files(place / "old", created_at="2026-01-01T00:00:00Z", more={"report/notes.md": "of v1 alone\n"})
    shutil.copytree(bundle, place / "new")
    report = {"report/report.html": "<p>A report</p>\n", "report/photos.csv": "sha256,label,split\n"}
    few_files(place / "new", created_at="2026-02-02T00:00:00Z", more=report)
    store = place / "store"
    for name in ("old", *["new"] * 4):
        cli("publish", place / name, "--again", MODEL_STORE=store).well()
    # The next one is told from these by when it was made.
    few_files(place / "new", created_at="2026-03-03T00:00:00Z", more=report)
    for version in ("v3", "v4"):
        cli("promote", version, MODEL_STORE=store).well()
    desk = Feedback(LocalStore(store), MODEL)
    for name, photo in (("a", "green"), ("b", "green"), ("c", "red")):
        assert desk.add(SAID[name], PHOTOS[photo])
    said_again(store, "a")
    (place / "photos/red").mkdir(parents=True)
    (place / "photos/red/1.png").write_bytes(PHOTOS["red"])
    (place / "bin").mkdir()
    (place / "bin/trainer").write_text(TRAINER.format(python=sys.executable))
    (place / "bin/trainer").chmod(0o755)
    return place


def said_again(store: Path, name: str) -> None:
    """Let a correction have been sent on the next day too."""
    (path,) = (store / MODEL / "feedback").rglob(f"{SAID[name].id}.json")
    later = path.parents[1] / f"{datetime.fromisoformat(path.parent.name) + timedelta(days=1):%Y-%m-%d}"
    later.mkdir()
    shutil.copy(path, later)


def with_canary(cli: Make, place: Path, *, percent: int = 10, errors: int = 0) -> None:
    """Let v5 have been the canary for a while, and both have been asked."""
    cli("canary", "start", "v5", "--percent", str(percent), MODEL_STORE=place / "store").well()
    path = place / "store" / MODEL / "channels.json"
    channels = json.loads(path.read_text())
    then = datetime.now(UTC) - timedelta(hours=2)
    channels["canary"]["step_since"] = text_of(then)
    path.write_text(json.dumps(channels))
    count(place, then + timedelta(minutes=1), {("v4", "production"): (400, 0), ("v5", "canary"): (100, errors)})


def count(place: Path, when: datetime, asked: dict[tuple[str, str], tuple[int, int]]) -> None:
    """Write what an instance counted: requests, and how many of them failed, by version and channel."""
    counts = Counts()
    for kind, (requests, failed) in asked.items():
        row = Row()
        for number in range(requests):
            row.add_request(503 if number < failed else 200, 20.0)
            row.add_photo(TINY_LABELS[number % 4], 0.9, unknown=False, cached=False)
        counts.row(*kind).add(row)
    name = f"{when:%H%M%S}-{len(asked)}"
    span = Span(f"{when:%d}{name}", text_of(when), text_of(when), counts)
    LocalStore(place / "store").write(f"{MODEL}/stats/{when:%Y-%m-%d}/{when:%H}/{name}.json", span.to_json())


def with_counts(place: Path) -> None:
    """Let two instances have counted: in two hours of a day that is over, and in one of another."""
    day = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0) - timedelta(days=5)
    for hours in (0, 1, 24):
        for minute in (3, 4):
            count(place, day + timedelta(hours=hours, minutes=minute), {("v4", "production"): (minute, 0)})


def text_of(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


def plain(value: Any, names: dict[str, str]) -> Any:
    """Return JSON values with other names of versions, in place of the old ones."""
    if isinstance(value, list):
        return [plain(each, names) for each in value]
    if isinstance(value, dict):
        return {key: plain(each, names) for key, each in value.items()}
    return names.get(value, value) if isinstance(value, str) else value


def prepare(name: str, cli: Make, place: Path) -> None:
    def do(*arguments: str | Path) -> None:
        cli(*arguments, MODEL_STORE=place / "store").well()

    if name == "counted":
        with_counts(place)
    elif name == "canary":
        with_canary(cli, place)
    elif name == "bad canary":
        with_canary(cli, place, errors=50)
    elif name == "shadow":
        do("shadow", "start", "v5")
    elif name == "pulled":
        do("pull", "v1", "--out", place / "pulled")
    else:
        do("feedback", "accept", A, "--reason", "right")
        if name == "exported":
            do("feedback", "export", place / "out")
        do("feedback", "accept", B, "--label", "green")
