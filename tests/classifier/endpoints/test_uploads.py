"""Photos in a bucket get their labels: real CloudEvents against a real process, and the storage emulator."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from classifier.endpoints.uploads import LARGEST_RESULT, RESULT_ENDING, Labeller, Upload, is_photo
from classifier.errors import NotFound, Unavailable
from classifier.settings import Settings
from classifier.storage.cloud import CloudStore
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from tests.conftest import BUCKET
from tests.support.processes import SUPPORT
from tests.support.serving import Serving, photo_bytes, publish, serve

RED, GREEN = photo_bytes(), photo_bytes(color=(30, 190, 40))
LIMIT = 50_000


# A real process, real events


@pytest.fixture(scope="module")
def server(published: Path, emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serve(
        published,
        tmp_path_factory.mktemp("server"),
        target="on_upload",
        signature="cloudevent",
        STORAGE_EMULATOR_HOST=emulator,
        UPLOAD_BUCKET=BUCKET,
        MAX_IMAGE_BYTES=str(LIMIT),
    ) as serving:
        yield serving


@pytest.fixture
def bucket(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudStore]:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    store = CloudStore(BUCKET)
    yield store
    store.close()


def name_of(ending: str = ".jpg") -> str:
    return f"uploads/{uuid.uuid4().hex}{ending}"


def deliver(
    serving: Serving, name: str, generation: int, *, size: int = 1000, media: str | None = "image/jpeg", **data: Any
) -> int:
    """Post an event as Eventarc does, in the binary form; returns the reply's status."""
    event = {
        "bucket": BUCKET,
        "name": name,
        "id": f"{BUCKET}/{name}/{generation}",
        "generation": str(generation),
        "metageneration": "1",
        "size": str(size),
        "storageClass": "STANDARD",
        "contentType": media,
        **data,
    }
    headers = {
        "ce-id": uuid.uuid4().hex,
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{BUCKET}",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.storage.object.v1.finalized",
        "ce-subject": f"objects/{name}",
        "ce-time": "2026-01-31T12:00:00.000000Z",
    }
    return serving.post(json=event, headers=headers).status_code


def result_of(store: ObjectStore, name: str) -> dict[str, Any]:
    return dict(json.loads(store.read(name + RESULT_ENDING).data))


def messages(serving: Serving, name: str) -> list[str]:
    lines = [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]
    return [line["message"] for line in lines if line.get("object") == name]


def test_an_upload_gets_its_labels_once(server: Serving, bucket: CloudStore) -> None:
    name = name_of()
    generation = bucket.write(name, RED, content_type="image/jpeg")
    assert deliver(server, name, generation) == 200
    result = result_of(bucket, name)
    assert result["photo"] == {"object": name, "generation": str(generation)}
    assert (result["prediction"]["label"], result["prediction"]["model"]["version"]) == ("red", "v1")
    written = bucket.read(name + RESULT_ENDING)
    assert deliver(server, name, generation) == 200
    assert bucket.read(name + RESULT_ENDING) == written
    assert "The upload has been labelled already." in messages(server, name)


def test_a_newer_photo_replaces_and_an_older_event_changes_nothing(server: Serving, bucket: CloudStore) -> None:
    name = name_of()
    old = bucket.write(name, RED)
    assert deliver(server, name, old) == 200
    new = bucket.write(name, GREEN)
    assert new > old
    assert deliver(server, name, new) == 200
    written = bucket.read(name + RESULT_ENDING)
    assert json.loads(written.data)["prediction"]["label"] == "green"
    assert deliver(server, name, old) == 200
    assert bucket.read(name + RESULT_ENDING) == written


def test_an_event_that_was_overtaken_before_it_came_writes_nothing(server: Serving, bucket: CloudStore) -> None:
    name = name_of()
    old = bucket.write(name, RED)
    new = bucket.write(name, GREEN)
    assert deliver(server, name, old) == 200
    with pytest.raises(NotFound):
        bucket.read(name + RESULT_ENDING)
    assert deliver(server, name, new) == 200
    assert result_of(bucket, name)["prediction"]["label"] == "green"


def test_events_at_the_same_time(server: Serving, bucket: CloudStore) -> None:
    name = name_of()
    old = bucket.write(name, RED)
    new = bucket.write(name, GREEN)
    with ThreadPoolExecutor(8) as events:
        replies = list(events.map(lambda generation: deliver(server, name, generation), [old, new] * 4))
    assert replies == [200] * 8
    assert result_of(bucket, name)["photo"]["generation"] == str(new)


@pytest.mark.parametrize(
    ("content", "size", "slug"), [(b"no photo", 8, "invalid-image"), (bytes(LIMIT + 1), 10, "too-large"),
                                  (b"", LIMIT + 1, "too-large"), (RED[:300], 300, "invalid-image")],
)  # fmt: skip
def test_what_cannot_be_read_gets_its_problem(
    server: Serving, bucket: CloudStore, content: bytes, size: int, slug: str
) -> None:
    name = name_of()
    generation = bucket.write(name, content)
    assert deliver(server, name, generation, size=size) == 200
    result = result_of(bucket, name)
    assert result["problem"]["type"] == f"urn:pointer:problem:{slug}"
    assert result["photo"]["generation"] == str(generation) and "prediction" not in result


def test_a_result_wakes_the_function_and_nothing_follows(server: Serving, bucket: CloudStore) -> None:
    name = name_of() + RESULT_ENDING
    generation = bucket.write(name, b"{}")
    for media in ("application/json", "image/jpeg", None):
        assert deliver(server, name, generation, media=media) == 200
    with pytest.raises(NotFound):
        bucket.read(name + RESULT_ENDING)


def test_what_is_no_photo_is_ignored_with_a_line(server: Serving, bucket: CloudStore) -> None:
    for ending, media in ((".txt", "text/plain"), (".jpg", "application/pdf"), (".bin", None)):
        name = name_of(ending)
        assert deliver(server, name, bucket.write(name, RED), media=media) == 200
        assert messages(server, name) == ["Ignored an upload that is not a photo."]
        with pytest.raises(NotFound):
            bucket.read(name + RESULT_ENDING)


def test_other_places_are_left_alone(server: Serving, bucket: CloudStore) -> None:
    for name in (f"elsewhere/{uuid.uuid4().hex}.jpg", f"uploads-of-others/{uuid.uuid4().hex}.jpg"):
        assert deliver(server, name, bucket.write(name, RED)) == 200
        with pytest.raises(NotFound):
            bucket.read(name + RESULT_ENDING)
    name = name_of()
    assert deliver(server, name, bucket.write(name, RED), bucket="another-bucket") == 200
    with pytest.raises(NotFound):
        bucket.read(name + RESULT_ENDING)


def test_a_deleted_photo_and_a_name_that_cannot_be_used(server: Serving) -> None:
    assert deliver(server, name_of(), 5) == 200
    for name in ("uploads//a.jpg", "uploads/../a.jpg", "uploads/" + "a" * 300 + ".jpg"):
        assert deliver(server, name, 5) == 200
        assert messages(server, name) == ["Ignored an upload whose name cannot be used."]


def test_a_store_that_is_gone_makes_the_platform_deliver_again(published: Path, tmp_path: Path) -> None:
    program = SUPPORT / "gcs_emulator.py"
    with subprocess.Popen([sys.executable, program, BUCKET], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        environment = {"STORAGE_EMULATOR_HOST": url, "UPLOAD_BUCKET": BUCKET}
        with serve(published, tmp_path / "a", target="on_upload", signature="cloudevent", **environment) as serving:
            name = name_of()
            address = f"{url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
            generation = int(requests.post(address, data=RED, timeout=10).json()["generation"])
            process.kill()
            process.wait()
            assert deliver(serving, name, generation) == 500
            assert "The upload could not be labelled yet" in serving.log.read_text()


def test_nothing_promoted_makes_the_platform_deliver_again(
    emulator: str, bucket: CloudStore, tmp_path: Path, tiny_bundle_original: Path
) -> None:
    name = name_of()
    generation = bucket.write(name, RED)
    environment = {"STORAGE_EMULATOR_HOST": emulator, "UPLOAD_BUCKET": BUCKET}
    empty = tmp_path / "models"
    with serve(empty, tmp_path / "a", target="on_upload", signature="cloudevent", **environment) as serving:
        assert deliver(serving, name, generation) == 500
        publish(empty, tiny_bundle_original)
        assert deliver(serving, name, generation) == 200
    assert result_of(bucket, name)["prediction"]["label"] == "red"


# Races, forced


class Rival(LocalStore):
    """A store in which somebody else writes a result just before each write of the first few."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.before_write: list[Callable[[], object]] = []

    def write(self, name: str, *args: Any, **kwargs: Any) -> int:
        if name.endswith(RESULT_ENDING) and self.before_write:
            self.before_write.pop(0)()
        return super().write(name, *args, **kwargs)


@pytest.fixture
def rival(tmp_path: Path) -> Rival:
    return Rival(tmp_path / "bucket")


@pytest.fixture(scope="module")
def settings(published: Path) -> Settings:
    return Settings(model_store=str(published), upload_bucket=BUCKET)


def labelled(settings: Settings, store: ObjectStore, name: str, generation: int) -> None:
    upload = Upload(BUCKET, name, generation, 1000, "image/jpeg")
    Labeller(settings, open_bucket=lambda _: store).label(upload, "1")


def recorded_by_a_rival(store: LocalStore, name: str, generation: int) -> Callable[[], object]:
    document = json.dumps({"photo": {"generation": str(generation)}, "by": "rival"}).encode()
    return lambda: LocalStore(store.folder).write(name + RESULT_ENDING, document)


def test_a_newer_result_that_was_faster_stays(settings: Settings, rival: Rival) -> None:
    generation = rival.write("uploads/a.jpg", RED)
    rival.before_write = [recorded_by_a_rival(rival, "uploads/a.jpg", generation + 1)]
    labelled(settings, rival, "uploads/a.jpg", generation)
    assert result_of(rival, "uploads/a.jpg")["by"] == "rival"


def test_an_older_result_that_was_faster_is_replaced(settings: Settings, rival: Rival) -> None:
    generation = rival.write("uploads/a.jpg", RED)
    rival.before_write = [recorded_by_a_rival(rival, "uploads/a.jpg", generation - 1)] * 3
    labelled(settings, rival, "uploads/a.jpg", generation)
    assert result_of(rival, "uploads/a.jpg")["prediction"]["label"] == "red"


def test_a_race_that_is_always_lost_is_left_to_another_delivery(settings: Settings, rival: Rival) -> None:
    generation = rival.write("uploads/a.jpg", RED)
    rival.before_write = [recorded_by_a_rival(rival, "uploads/a.jpg", generation - 1)] * 9
    with pytest.raises(Unavailable):
        labelled(settings, rival, "uploads/a.jpg", generation)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"photo": {"generation": null}}', b'{"photo": {"generation": 1e999}}']
)
def test_what_is_no_result_is_replaced(settings: Settings, local_store: LocalStore, content: bytes) -> None:
    generation = local_store.write("uploads/a.jpg", RED)
    local_store.write("uploads/a.jpg" + RESULT_ENDING, content)
    labelled(settings, local_store, "uploads/a.jpg", generation)
    assert result_of(local_store, "uploads/a.jpg")["prediction"]["label"] == "red"


def test_what_is_too_large_for_a_result_is_left_alone(settings: Settings, local_store: LocalStore) -> None:
    generation = local_store.write("uploads/a.jpg", RED)
    local_store.write("uploads/a.jpg" + RESULT_ENDING, bytes(LARGEST_RESULT + 1))
    labelled(settings, local_store, "uploads/a.jpg", generation)
    assert local_store.read("uploads/a.jpg" + RESULT_ENDING).data == bytes(LARGEST_RESULT + 1)


def test_of_rivals_with_the_same_photo_one_writes(settings: Settings, bucket: CloudStore) -> None:
    name = name_of()
    generation = bucket.write(name, GREEN)
    written: list[str] = []

    class Counting(CloudStore):
        def write(self, name: str, *args: Any, **kwargs: Any) -> int:
            found = super().write(name, *args, **kwargs)
            written.append(name)
            return found

    labeller = Labeller(settings, open_bucket=Counting)
    ready = threading.Barrier(6)

    def event(_: int) -> None:
        ready.wait()
        labeller.label(Upload(BUCKET, name, generation, 1000, "image/jpeg"), "1")

    with ThreadPoolExecutor(6) as events:
        list(events.map(event, range(6)))
    assert written == [name + RESULT_ENDING]
    assert result_of(bucket, name)["prediction"]["label"] == "green"


@pytest.mark.parametrize(
    ("name", "media", "photo"),
    [
        ("uploads/a", "image/jpeg", True),
        ("uploads/a.JPG", "", True),
        ("uploads/a.heic", "application/octet-stream", True),
        ("uploads/a.jpg", "application/x-www-form-urlencoded", True),
        ("uploads/a.txt", "IMAGE/PNG; q=1", True),
        ("uploads/a.jpg", "text/plain", False),
        ("uploads/", "", False),
        ("uploads/a", "application/octet-stream", False),
    ],
)
def test_what_counts_as_a_photo(name: str, media: str, photo: bool) -> None:
    assert is_photo(Upload(BUCKET, name, 1, 1, media)) is photo
