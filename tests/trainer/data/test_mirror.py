"""Mirroring a bucket's folder: what is downloaded, kept and removed, and that nothing half done is ever used."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest, InvalidSetting, NotFound, Refused, Unavailable
from classifier.registry.manifest import InputSpec
from classifier.storage.cloud import CloudStore
from tests.support import photo_sets
from tests.support.processes import environment
from trainer.data import mirror as mirroring
from trainer.data.checks import require_unchanged
from trainer.data.loaders import list_photos
from trainer.data.mirror import OWN_FOLDER, StoredObject, local_data_dir, mirror
from trainer.data.preparation import load_photos, prepare_photos
from trainer.main import app
from trainer.networks.backbones import input_spec
from trainer.run.config import TrainingConfig
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run


@pytest.fixture
def bucket(cloud_store: CloudStore) -> Iterator[CloudStore]:
    """A bucket's folder, empty, of this test alone."""
    return cloud_store


def _mirror(bucket: CloudStore, root: Path) -> mirroring.Mirrored:
    return mirror(bucket.url, root, Console(file=io.StringIO()))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _did(mirrored: mirroring.Mirrored) -> tuple[int, int, int]:
    return mirrored.downloaded, mirrored.unchanged, mirrored.removed


def test_the_mirror_follows_the_bucket_and_downloads_only_what_is_new(bucket, tmp_path):
    content = {f"{label}/{number}.jpg": f"{label}{number}".encode() for label in "ab" for number in range(6)}
    for name, data in content.items():
        bucket.write(name, data)
    first = _mirror(bucket, tmp_path)
    assert _did(first) == (12, 0, 0)
    assert first.folder == tmp_path / bucket.url.removeprefix("gs://")
    assert _files(first.folder) == content
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.jpg")}
    assert _did(_mirror(bucket, tmp_path)) == (0, 12, 0)
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.jpg")} == stamps

    bucket.write("a/0.jpg", b"A0")  # as long as before
    bucket.write("c/0.jpg", b"c0")
    assert _did(_mirror(bucket, tmp_path)) == (2, 11, 0)
    assert _files(first.folder) == {**content, "a/0.jpg": b"A0", "c/0.jpg": b"c0"}


def _delete(bucket: CloudStore, *names: str) -> None:
    prefix = bucket.url.split("/", 3)[3]
    for name in names:
        bucket._connected().bucket(bucket._bucket_name).blob(f"{prefix}/{name}").delete()


def test_what_the_bucket_does_not_have_goes_but_only_in_this_folder(bucket, tmp_path):
    for name in ("a/0.jpg", "a/1.jpg", "b/0.jpg", "labels.csv"):
        bucket.write(name, name.encode())
    folder = _mirror(bucket, tmp_path).folder
    beside = folder.parent / "beside.txt"
    beside.write_text("not in this folder")
    (folder / "a" / "mine.jpg").write_bytes(b"put here by hand")
    (folder / "b" / "link.jpg").symlink_to(beside)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.jpg").write_bytes(b"kept")
    (folder / "linked").symlink_to(elsewhere)
    _delete(bucket, "a/1.jpg", "b/0.jpg")
    assert _did(_mirror(bucket, tmp_path)) == (0, 2, 5)
    assert set(_files(folder)) == {"a/0.jpg", "labels.csv"}
    assert not (folder / "b").exists()
    assert beside.is_file() and (elsewhere / "kept.jpg").is_file()


def test_an_object_may_become_a_folder_and_back(bucket, tmp_path):
    bucket.write("a", b"file")
    bucket.write("b/0", b"file")
    folder = _mirror(bucket, tmp_path).folder
    _delete(bucket, "a", "b/0")
    bucket.write("a/0", b"in a folder")
    bucket.write("b", b"file now")
    assert _did(_mirror(bucket, tmp_path)) == (2, 0, 2)
    assert _files(folder) == {"a/0": b"in a folder", "b": b"file now"}


def test_a_file_in_a_folder_s_place_is_a_clear_error(bucket, tmp_path):
    bucket.write("a", b"file")
    folder = _mirror(bucket, tmp_path).folder
    below = CloudStore("pointer-tests", f"{bucket.url.split('/', 3)[3]}/a/b")
    below.write("0", b"in a folder")
    with pytest.raises(Refused, match=rf"Expected a folder at {folder}/a/b; a file is in its place or above it"):
        _mirror(below, tmp_path)
    below.close()


def test_a_file_that_was_changed_here_is_downloaded_again(bucket, tmp_path):
    bucket.write("a/0.jpg", b"right")
    folder = _mirror(bucket, tmp_path).folder
    (folder / "a/0.jpg").write_bytes(b"wrong")
    assert _did(_mirror(bucket, tmp_path)) == (1, 0, 0)
    assert _files(folder) == {"a/0.jpg": b"right"}
    # A line of the journal that a kill cut off costs one download.
    journal = folder.parents[1] / OWN_FOLDER / "objects.jsonl"
    journal.write_text(journal.read_text()[:-5])
    assert _did(_mirror(bucket, tmp_path)) == (1, 0, 0)
    assert _did(_mirror(bucket, tmp_path)) == (0, 1, 0)


def test_an_emptied_folder_leaves_the_mirror_as_it_is(bucket, tmp_path):
    bucket.write("a/0.jpg", b"a")
    folder = _mirror(bucket, tmp_path).folder
    _delete(bucket, "a/0.jpg")
    with pytest.raises(NotFound, match=r"Expected photos in gs://.*; there are no objects below it"):
        _mirror(bucket, tmp_path)
    assert _files(folder) == {"a/0.jpg": b"a"}


def test_a_folder_of_other_files_is_not_taken_for_a_mirror(bucket, tmp_path):
    bucket.write("a/0.jpg", b"a")
    other = tmp_path / "pointer-tests" / "thesis.doc"
    other.parent.mkdir()
    other.write_text("years of work")
    with pytest.raises(Refused, match="it holds other files"):
        _mirror(bucket, tmp_path)
    assert other.read_text() == "years of work"


def test_a_link_does_not_lead_out_of_the_mirror(bucket, tmp_path):
    bucket.write("a/0.jpg", b"a")
    folder = tmp_path / bucket.url.removeprefix("gs://")
    (tmp_path / "pointer-tests" / OWN_FOLDER).mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "photo.jpg").write_bytes(b"mine")
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "home")
    with pytest.raises(Refused, match="a link leads to"):
        _mirror(bucket, tmp_path)
    assert _files(tmp_path / "home") == {"photo.jpg": b"mine"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../../etc/passwd"], r"has an empty, \"\.\" or \"\.\.\" segment"),
        (["/etc/passwd"], "has an empty"),
        (["a//0.jpg"], "has an empty"),
        (["a\\..\\0.jpg"], "has a backslash"),
        (["a/\n.jpg"], "cannot be printed"),
        (["a/" + "x" * 256], "more than 255 between slashes"),
        ([f"{OWN_FOLDER}/objects.jsonl"], "which mirrors keep for themselves"),
        (["a", "a/0.jpg"], "'a' is an object and the folder of 'a/0.jpg'"),
    ],
)
def test_a_name_that_cannot_be_a_file_s_is_refused_before_anything_is_written(names, message, tmp_path):
    objects = [StoredObject(name, 1, 1) for name in names]
    with pytest.raises(InvalidRequest, match=message):
        mirroring._usable(objects, "gs://bucket/folder")


def test_the_placeholders_of_empty_folders_are_passed_over(bucket, tmp_path):
    for name in ("a/0.jpg", "empty"):
        bucket.write(name, b"")
    prefix = bucket.url.split("/", 3)[3]
    client = bucket._connected().bucket(bucket._bucket_name)
    client.blob(f"{prefix}/").upload_from_string(b"")
    client.blob(f"{prefix}/a/").upload_from_string(b"")
    assert set(_files(_mirror(bucket, tmp_path).folder)) == {"a/0.jpg", "empty"}


class _Failing(BaseHTTPRequestHandler):
    """Cloud Storage on a bad day: lists one object, and answers 503 to whoever wants it."""

    def do_GET(self) -> None:
        listing = self.path.startswith("/storage/v1/b/bucket/o?")
        item = {"name": "photos/a/0.jpg", "size": "3", "generation": "7"}
        body = json.dumps({"items": [item]} if listing else {"error": {"message": "busy"}}).encode()
        self.send_response(200 if listing else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), _Failing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_address[1]}")
        yield
        server.shutdown()
        thread.join()


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirroring, "open_store", lambda url: CloudStore("bucket", "photos", patience=0.3, timeout=2))


def test_a_bucket_that_fails_is_a_clear_error_and_leaves_no_half_file(failing, monkeypatch, tmp_path):
    _impatient(monkeypatch)
    with pytest.raises(Unavailable, match=r"The store gs://bucket/photos cannot be reached: .*503"):
        mirror("gs://bucket/photos", tmp_path, Console(file=io.StringIO()))
    assert set(_files(tmp_path / "bucket")) <= {f"{OWN_FOLDER}/lock"}


def test_a_bucket_that_cannot_be_reached_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    _impatient(monkeypatch)
    with pytest.raises(Unavailable, match=r"gs://bucket/photos cannot be reached: .*Check the network"):
        mirror("gs://bucket/photos", tmp_path, Console(file=io.StringIO()))
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_refused_before_anything_is_downloaded(bucket, tmp_path, monkeypatch):
    bucket.write("a/0.jpg", b"a")
    monkeypatch.setattr(mirroring, "ROOM_LEFT", 2**60)
    with pytest.raises(Refused, match=r"GB of free disk for .*; there are"):
        _mirror(bucket, tmp_path)
    assert not list(tmp_path.rglob("*.jpg"))


KILLED = """
import io, os, signal, sys
from pathlib import Path
from rich.console import Console
from classifier.storage import json_api
from trainer.data import mirror

class Killed(json_api.JsonApiStore):
    done = 0
    def download(self, name, file):
        if Killed.done == 5:
            file.write(b"half of ")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        Killed.done += 1
        return super().download(name, file)

mirror.WORKERS = 1
json_api.JsonApiStore = Killed
mirror.mirror(sys.argv[1], Path(sys.argv[2]), Console(file=io.StringIO()))
"""


def test_a_killed_mirror_has_whole_files_only_and_goes_on(bucket, emulator, tmp_path):
    content = {f"a/{number}.jpg": f"photo {number}".encode() for number in range(12)}
    for name, data in content.items():
        bucket.write(name, data)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, bucket.url, tmp_path],
        env={**environment(), "STORAGE_EMULATOR_HOST": emulator},
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / bucket.url.removeprefix("gs://")
    found = _files(folder)
    assert len(found) == 5 and found.items() < content.items()
    assert [path.name for path in (tmp_path / "pointer-tests" / OWN_FOLDER).glob("part-*")]
    assert _did(_mirror(bucket, tmp_path)) == (7, 5, 0)
    assert _files(folder) == content
    assert not list((tmp_path / "pointer-tests" / OWN_FOLDER).glob("part-*"))


def test_two_processes_do_not_mirror_at_once(bucket, tmp_path):
    bucket.write("a/0.jpg", b"a")
    said = io.StringIO()
    tree = mirroring._Tree(tmp_path / "pointer-tests")
    with tree.lock(Console(file=said)):
        other = threading.Thread(target=mirror, args=(bucket.url, tmp_path, Console(file=said, width=200)))
        other.start()
        while "waiting for another process that mirrors" not in said.getvalue():
            assert other.is_alive()
            other.join(0.01)
        assert not list(tmp_path.rglob("*.jpg"))
    other.join()
    assert [path.name for path in tmp_path.rglob("*.jpg")] == ["0.jpg"]


def test_a_data_set_in_a_bucket_loads_like_one_in_a_folder(bucket, tmp_path, monkeypatch, capsys):
    root = photo_sets.dog_breed(tmp_path / "dogs", photos=4)
    for path in root.rglob("*"):
        if path.is_file():
            bucket.write(path.relative_to(root).as_posix(), path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTER_MIRROR", raising=False)
    config = DataConfig("dog-breed", bucket.url)
    listing = list_photos(config)
    assert listing.frame.equals(list_photos(DataConfig("dog-breed", str(root))).frame)
    assert config.data_dir == bucket.url
    assert "13 downloaded, 0 unchanged, 0 removed" in " ".join(capsys.readouterr().err.split())
    assert local_data_dir(bucket.url) == Path(".data", bucket.url.removeprefix("gs://"))
    monkeypatch.setenv("POINTER_MIRROR", str(tmp_path / "disk"))
    app(["datasets", "--dataset", "dog-breed", "--data-dir", bucket.url], standalone_mode=False)
    assert "3 classes, 12 photos, 0 rejected" in capsys.readouterr().out
    assert (tmp_path / "disk" / bucket.url.removeprefix("gs://") / "labels.csv").is_file()


def test_a_run_keeps_the_bucket_s_address_and_finds_its_photos_again(bucket, tmp_path, monkeypatch):
    root = photo_sets.dog_breed(tmp_path / "dogs", photos=4)
    for path in (*root.glob("train/*.jpg"), root / "labels.csv"):
        bucket.write(path.relative_to(root).as_posix(), path)
    monkeypatch.setenv("POINTER_MIRROR", str(tmp_path / "mirror"))
    config = TrainingConfig(
        DataConfig("dog-breed", bucket.url), NetworkConfig("base_cnn", "none", 32), ScheduleConfig()
    )
    run = start_run(tmp_path / "run", config)
    console = Console(file=io.StringIO())
    prepare_photos(config, input_spec(config.network), run, console)
    shutil.rmtree(tmp_path / "mirror")
    again, kept = open_run(tmp_path / "run")
    assert kept.data.data_dir == bucket.url
    photos = load_photos(again, kept, InputSpec(width=32, height=32))
    require_unchanged(photos, np.arange(len(photos.frame)))
    bucket.write("train/sky000.jpg", (root / "train/sky001.jpg").read_bytes() + b"0")
    with pytest.raises(Refused, match=r"1 changed \(train/sky000\.jpg\)"):
        prepare_photos(config, input_spec(config.network), run, console)


def test_a_url_that_names_no_folder_of_photos_is_refused(tmp_path):
    with pytest.raises(InvalidSetting, match="valid bucket name"):
        mirror("gs://", tmp_path, Console(file=io.StringIO()))
    with pytest.raises(InvalidRequest, match="which mirrors keep for themselves"):
        mirror(f"gs://bucket/{OWN_FOLDER}", tmp_path, Console(file=io.StringIO()))
    with pytest.raises(InvalidRequest, match="Expected gs://bucket/folder"):
        mirror(os.fspath(tmp_path), tmp_path, Console(file=io.StringIO()))
