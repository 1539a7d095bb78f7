"""A store of this release as JSON, which later releases have to go on reading: `tests/data/written_store.json`.

    python -m tests.support.written_store > tests/data/written_store.json

writes one anew. A file that was released is never written again: what a later release writes otherwise gets a file of
its own beside it, and tests of its own.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from classifier.storage.names import LOCK_FILE, TEMPORARY_FOLDER
from classifier.storage.protocol import ObjectStore
from classifier.traffic.compaction import compact
from classifier.traffic.corrections import Correction, Decision, Seen
from classifier.traffic.counts import Counts
from classifier.traffic.feedback import Feedback
from classifier.traffic.spans import Span
from tests.support.bundles import TINY_COLOURS, TINY_SIDE, build_tiny_bundle, files_of
from tests.support.processes import ROOT
from tests.support.retraining import RECIPE

FILE = ROOT / "tests/data/written_store.json"
START = datetime(2026, 3, 1, tzinfo=UTC)


def unpack(store: ObjectStore, file: Path = FILE) -> None:
    """Write such a store's objects into an empty one."""
    objects: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["objects"]
    for name, content in objects.items():
        if isinstance(content, str):
            data = content.encode()
        else:
            data = base64.b64decode(objects[content.get("same", name)]["base64"])
        store.write(name, data, if_generation=0)


def pack(folder: Path) -> dict[str, Any]:
    """Return a folder store's objects: text as it is, what is the same once, all else in Base64."""
    first: dict[bytes, str] = {}
    objects: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        if name.split("/")[0] in (LOCK_FILE, TEMPORARY_FOLDER):
            continue
        if path.suffix in (".json", ".md", ".csv", ".html", ".decision", ".shadow"):
            objects[name] = data.decode()
        elif data in first:
            objects[name] = {"same": first[data]}
        else:
            objects[name] = {"base64": base64.b64encode(data).decode()}
            first[data] = name
    return objects


def make(folder: Path, bundle: Path) -> None:
    """Write the store: `food` with a canary, `dogs` with a shadow; gate, statistics and corrections."""
    options: dict[str, Any] = {"who": "kim", "reason": "the store of a release", "replay": golden.replay}
    store = LocalStore(folder)
    for model in ("food", "dogs"):
        registry = Registry(store, model)
        for _ in range(3 if model == "food" else 2):
            registry.publish(bundle, who="kim", replay=golden.replay)
        registry.promote("v1", **options)
        registry.set_gate(lambda gate: gate.changed("class_drop", "0.3"), who="kim", reason="few photos")
    food, dogs = Registry(store, "food"), Registry(store, "dogs")
    food.start_canary("v2", 10, **options)
    food.abort_canary(who="kim", reason="a trial", figures={"requests": {"production": 90, "canary": 10}})
    food.promote("v2", judge=lambda *_: ["top-1 falls"], force=True, **options)
    food.rollback(**options)
    food.start_canary("v3", 10, **options)
    food.start_canary("v3", 25, **options)
    dogs.start_shadow("v2", 0.5, keep_photos=True, **options)
    count(store)
    correct(Feedback(store, "food"))


def count(store: LocalStore) -> None:
    """Statistics: a day that is folded, an hour that is, and what two instances wrote."""
    for number, when in enumerate((5, 6, 77, 78, 100)):
        put(store, "food", START + timedelta(hours=when, minutes=number), ("v1", "production"), 10 + number, {})
    put(store, "food", START + timedelta(hours=100, minutes=9), ("v3", "canary"), 7, {"v3 memory": 2})
    put(store, "dogs", START + timedelta(hours=100), ("v2", "shadow"), 0, {})
    compact(store, "food", START + timedelta(hours=80))


def put(
    store: LocalStore, model: str, when: datetime, kind: tuple[str, str], requests: int, problems: dict[str, int]
) -> None:
    counts = Counts()
    row = counts.row(*kind)
    for number in range(requests):
        row.add_request(503 if number == 0 else 200, 12.0)
        row.add_photo("green", 0.9, unknown=number == 1, cached=number == 2)
    if kind[1] == "shadow":
        for label in ("green", "blue"):
            row.add_photo(label, 0.8, unknown=False, cached=False)
            row.add_shadow("green", label, 3.0, 2.0)
    counts.problems.update(problems)
    text = when.isoformat().replace("+00:00", "Z")
    span = Span(f"{when:%d%H}{kind[0]}", text, text, counts)
    store.write(f"{model}/stats/{when:%Y-%m-%d}/{when:%H}/{when:%H%M%S}-{span.id}.json", span.to_json())


def correct(desk: Feedback) -> None:
    """Corrections of each kind: pending, accepted, rejected, and what a shadow disagrees about."""
    photo = plain_photo("green")
    seen = Seen("v1", "production", "blue", 0.93, "ok")
    said = [
        (Correction.make("green", photo=photo, seen=seen), photo),
        (Correction.make("lime", request_id="5f2b8c1e", seen=seen), b""),
        (Correction.make(None, request_id="77e0aa11", seen=Seen("v3", "canary", "red", 0.4, "unknown")), b""),
        (Correction.of_disagreement(photo, seen, Seen("v2", "shadow", "green", 0.8, "ok")), photo),
    ]
    for correction, content in said:
        assert desk.add(correction, content)
    time = "2026-03-02T00:00:00Z"
    desk.decide(desk.find(said[0][0].id), Decision("accepted", "kim", time, "green", "a lime is green"))
    desk.decide(desk.find(said[2][0].id), Decision("rejected", "kim", time, None, "no photo"))


def small(bundle: Path) -> Path:
    """Leave a bundle what a version needs, with two small golden photos."""
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    cases = []
    for case in manifest.golden[:2]:
        (bundle / case.file).write_bytes(plain_photo(case.label))
        cases.append({"file": case.file, "label": case.label, "probabilities": list(case.probabilities)})
    kept = {"manifest.json", "model.tflite", "report/model_card.md", *(case["file"] for case in cases)}
    for path in [path for path in bundle.rglob("*") if path.is_file()]:
        if path.relative_to(bundle).as_posix() not in kept:
            path.unlink()
    plain = json.loads((bundle / "manifest.json").read_text())
    files = {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in files_of(bundle).items()}
    # Without noise a photo is a little surer of its colour.
    plain |= {"files": files, "golden": cases, "golden_tolerance": 0.1, "training": RECIPE}
    (bundle / "manifest.json").write_text(json.dumps(plain, indent=2))
    return bundle


def plain_photo(label: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (TINY_SIDE, TINY_SIDE), TINY_COLOURS[label]).save(buffer, "PNG")
    return buffer.getvalue()


def lines(objects: dict[str, Any]) -> Iterable[str]:
    """Yield the file, an object a line."""
    yield '{"release": "0.1.0", "objects": {'
    yield ",\n".join(f"{json.dumps(name)}: {json.dumps(content)}" for name, content in objects.items())
    yield "}}"


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        make(folder / "store", small(build_tiny_bundle(folder / "bundle")))
        sys.stdout.write("\n".join(lines(pack(folder / "store"))) + "\n")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
