"""Filling a bucket or a folder with a data set: what is uploaded, kept and refused, and what a kill leaves."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from classifier.errors import Conflict, InvalidRequest, NotFound, Refused
from classifier.storage.cloud import CloudStore
from classifier.storage.json_api import JsonApiStore
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from tests.support import photo_sets
from tests.support.processes import environment
from trainer.data import upload as uploading
from trainer.data.checks import CheckedPhotos
from trainer.data.listing import TABLE
from trainer.data.preparation import check_dataset
from trainer.data.upload import Uploaded, expect_apart, upload
from trainer.main import app
from trainer.networks.backbones import input_spec
from trainer.run.sections import DataConfig, NetworkConfig

SPEC = input_spec(NetworkConfig("base_cnn", "none", 32))
PHOTOS = 12


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    """Twelve photos of three classes, whose splits are drawn."""
    return photo_sets.dog_breed(tmp_path / "dogs", photos=PHOTOS // 3)


@pytest.fixture(autouse=True)
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTER_MIRROR", str(tmp_path / "mirror"))


def _check(folder: Path | str, dataset: str = "dog-breed", seed: int = 7) -> CheckedPhotos:
    console = Console(file=io.StringIO())
    return check_dataset(DataConfig(dataset, str(folder), seed=seed), SPEC, console)[0]


def _upload(store: ObjectStore, photos: CheckedPhotos, *, replace: bool = False, dry_run: bool = False) -> Uploaded:
    return upload(photos, store.url, Console(file=io.StringIO()), replace=replace, dry_run=dry_run)


def _did(done: Uploaded) -> tuple[int, int, int]:
    return done.new, done.replaced, done.unchanged


def _objects(store: ObjectStore) -> dict[str, int]:
    return {item.name: item.generation for item in store.list()}


def _table(store: ObjectStore) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(store.read(TABLE).data), dtype=str).set_index("image_path")


def test_what_is_uploaded_is_the_same_data_set(dogs, store):
    photos = _check(dogs)
    done = _upload(store, photos)
    assert _did(done) == (PHOTOS, 0, 0) and done.table_written
    assert done.counts == photos.frame["split"].value_counts().to_dict()
    assert set(_objects(store)) == {*photos.frame["image_path"], TABLE}
    for path in photos.frame["image_path"]:
        assert store.read(path).data == (dogs / path).read_bytes()
    # With the splits of now, whatever the seed of the training: so the run's fingerprint is the same too.
    assert _check(store.url, "csv", seed=8).fingerprint == photos.fingerprint

    before = _objects(store)
    again = _upload(store, photos)
    assert _did(again) == (0, 0, PHOTOS) and not again.table_written
    assert _objects(store) == before


def test_a_later_upload_adds_photos_and_lets_the_others_keep_their_splits(dogs, cloud_store):
    _upload(cloud_store, _check(dogs))
    splits = _table(cloud_store)["split"]
    photo_sets.write_photo(dogs / "train/new.jpg", (1, 2, 3), 99)
    with (dogs / "labels.csv").open("a") as table:
        table.write("new,sky\n")
    (dogs / "train/leaf000.jpg").unlink()
    lines = (dogs / "labels.csv").read_text().splitlines(keepends=True)
    (dogs / "labels.csv").write_text("".join(line for line in lines if not line.startswith("leaf000")))
    redrawn = _check(dogs, seed=8)
    drawn = redrawn.frame.set_index("image_path")["split"].reindex(splits.index.drop("train/leaf000.jpg"))
    assert (drawn != splits.drop("train/leaf000.jpg")).any()
    dry = _upload(cloud_store, redrawn, dry_run=True)
    assert set(_objects(cloud_store)) == {*splits.index, TABLE}
    done = _upload(cloud_store, redrawn)
    assert done == dry and _did(done) == (1, 0, PHOTOS - 1) and done.table_written
    assert (done.others, done.moved) == (1, 0) and done.kept_splits > 0
    after = _table(cloud_store)
    assert after["split"].reindex(splits.index).equals(splits)
    assert set(after.index) == {*splits.index, "train/new.jpg"}

    replaced = _upload(cloud_store, redrawn, replace=True)
    assert replaced.moved == done.kept_splits and replaced.kept_splits == 0 and replaced.others == 1
    wanted = redrawn.frame.set_index("image_path")["split"]
    assert _table(cloud_store)["split"].to_dict() == wanted.to_dict()
    assert "train/leaf000.jpg" in _objects(cloud_store), "no object is ever removed"


def test_nothing_that_is_there_changes_unless_it_is_asked_for(dogs, store):
    _upload(store, _check(dogs))
    before = _objects(store)
    photo_sets.write_photo(dogs / "train/sky000.jpg", (1, 2, 3), 99)
    labels = (dogs / "labels.csv").read_text().replace("leaf001,leaf", "leaf001,sky")
    (dogs / "labels.csv").write_text(labels)
    photos = _check(dogs)
    expected = (
        r"1 with other bytes \(train/sky000\.jpg\) and 1 with another label \(train/leaf001\.jpg\)\. "
        r"Nothing was uploaded; --replace"
    )
    with pytest.raises(Refused, match=expected):
        _upload(store, photos)
    assert _objects(store) == before
    done = _upload(store, photos, replace=True)
    assert _did(done) == (0, 1, PHOTOS - 1) and done.relabelled == 1
    after = _objects(store)
    assert {name for name in before if after[name] != before[name]} == {"train/sky000.jpg", TABLE}
    assert _check(store.url, "csv").fingerprint == photos.fingerprint


KILLED = """
import io, os, signal, sys
from pathlib import Path
from rich.console import Console
from classifier.registry.manifest import InputSpec
from classifier.storage import json_api
from trainer.data import upload
from trainer.data.preparation import check_dataset
from trainer.run.sections import DataConfig

class Killed(json_api.JsonApiStore):
    left = int(sys.argv[3])
    def write(self, *arguments, **options):
        if Killed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Killed.left -= 1
        return super().write(*arguments, **options)

upload.WORKERS = 1
json_api.JsonApiStore = Killed
console = Console(file=io.StringIO())
photos, _ = check_dataset(DataConfig("dog-breed", sys.argv[1]), InputSpec(width=32, height=32), console)
upload.upload(photos, sys.argv[2], console, replace=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(folder: Path, url: str, writes: int, emulator: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, folder, url, str(writes)],
        env={**environment(), "STORAGE_EMULATOR_HOST": emulator},
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("writes", "there"), [(5, 5), (PHOTOS, PHOTOS), (PHOTOS + 1, PHOTOS + 1)])
def test_a_killed_upload_goes_on_and_names_no_photo_before_it_is_there(dogs, cloud_store, emulator, writes, there):
    _killed(dogs, cloud_store.url, writes, emulator)
    kept = _objects(cloud_store)
    assert len(kept) == there
    if writes <= PHOTOS:
        with pytest.raises(InvalidRequest, match=f"or {TABLE} in"):
            _check(cloud_store.url, "csv")
    photos = _check(dogs)
    done = _upload(cloud_store, photos)
    assert _did(done) == (PHOTOS - min(there, PHOTOS), 0, min(there, PHOTOS))
    assert done.table_written == (writes <= PHOTOS)
    assert {name: found for name, found in _objects(cloud_store).items() if name in kept} == kept
    assert _check(cloud_store.url, "csv").fingerprint == photos.fingerprint


def test_a_kill_between_photos_that_are_replaced_leaves_a_table_that_can_be_read(dogs, cloud_store, emulator):
    _upload(cloud_store, _check(dogs))
    for number, name in enumerate(("sky000", "sky001", "sky002")):
        photo_sets.write_photo(dogs / f"train/{name}.jpg", (1, 2, 3), 99 + number)
    _killed(dogs, cloud_store.url, 2, emulator)
    assert len(_check(cloud_store.url, "csv").frame) == PHOTOS
    photos = _check(dogs)
    assert _did(_upload(cloud_store, photos, replace=True)) == (0, 1, PHOTOS - 1)
    assert _check(cloud_store.url, "csv").fingerprint == photos.fingerprint


def test_another_upload_that_was_faster_is_a_conflict_unless_it_wrote_the_same(dogs, json_api_store, monkeypatch):
    photos = _check(dogs)
    first = photos.frame.at[0, "image_path"]
    write = JsonApiStore.write

    def raced(self: JsonApiStore, name: str, data: bytes, **options: object) -> int:
        if name == first:
            write(self, name, rival or data)
        return write(self, name, data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(JsonApiStore, "write", raced)
    rival = b"other bytes"
    with pytest.raises(
        Conflict, match=f"Another upload wrote {first} in gs://.* meanwhile. Run the same command again"
    ):
        _upload(json_api_store, photos)
    assert TABLE not in _objects(json_api_store)
    json_api_store.delete(first)
    rival = b""
    assert _upload(json_api_store, photos).table_written


def test_a_photo_that_changes_while_it_is_uploaded_is_refused(dogs, local_store):
    photos = _check(dogs)
    photo_sets.write_photo(dogs / "train/sky000.jpg", (1, 2, 3), 99)
    with pytest.raises(Refused, match=r"train/sky000\.jpg has changed since it was checked"):
        _upload(local_store, photos)
    assert TABLE not in _objects(local_store)


def test_a_table_of_somebody_else_is_not_replaced(dogs, local_store):
    local_store.write(TABLE, b"file,class\na.jpg,dog\n")
    for replace in (False, True):
        with pytest.raises(Refused, match="to be that of an upload"):
            _upload(local_store, _check(dogs), replace=replace)
    assert set(_objects(local_store)) == {TABLE}


def test_a_name_that_no_object_can_have_is_refused_before_anything_is_uploaded(tmp_path, local_store):
    root = photo_sets.folder(tmp_path / "photos", photos=4)
    (root / "sky/0.png").rename(root / "sky/Screenshot 9.41\u202fAM.png")
    with pytest.raises(InvalidRequest, match=r"AM\.png' cannot be an object: .* cannot be printed\. Rename it"):
        _upload(local_store, _check(root, "folder"))
    assert not local_store.folder.exists()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("gs://bucket", "gs://bucket/x"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("gs://bucket/x", "gs://bucket/x/y"),
        ("here", "here/x"),
        ("here", "./here"),
    ],
)
def test_a_data_set_is_not_uploaded_into_itself(source, target):
    with pytest.raises(InvalidRequest, match="outside the data set"):
        expect_apart(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [("gs://bucket/x", "gs://bucket/xy"), ("gs://bucket/x", "gs://other/x"), ("here", "hereby"), ("here", "gs://here")],
)
def test_it_may_go_beside_itself(source, target):
    expect_apart(source, target)


def test_the_command_says_what_it_did_and_what_is_next(dogs, cloud_store, capsys):
    (dogs / "train/sky003.jpg").write_bytes(b"no photo")
    words = ["upload", cloud_store.url, "--dataset", "dog-breed", "--data-dir", str(dogs)]
    with pytest.raises(NotFound):
        cloud_store.read(TABLE)
    app([*words, "--dry-run"], standalone_mode=False)
    said = capsys.readouterr().out
    assert f"would upload {PHOTOS - 1} new photos" in said and f"would write {cloud_store.url}/{TABLE}" in said
    assert not _objects(cloud_store)
    app(words, standalone_mode=False)
    said = capsys.readouterr().out
    assert "rejected: train/sky003.jpg" in said
    assert f"uploaded {PHOTOS - 1} new photos, replaced 0; 0 were there" in said
    assert f"next: trainer train --dataset csv --data-dir {cloud_store.url} " in said
    app(words, standalone_mode=False)
    said = capsys.readouterr().out
    assert f"uploaded 0 new photos, replaced 0; {PHOTOS - 1} were there" in said and "unchanged: " in said
    app(["datasets", "--dataset", "csv", "--data-dir", cloud_store.url], standalone_mode=False)
    assert f"3 classes, {PHOTOS - 1} photos, 0 rejected" in capsys.readouterr().out
    for photo in (dogs / "train").glob("leaf*.jpg"):
        photo.write_bytes(b"no photo")
    with pytest.raises(InvalidRequest, match="at most 10% are allowed"):
        app(words, standalone_mode=False)


@pytest.mark.parametrize("kind", [CloudStore, JsonApiStore, LocalStore])
def test_the_checksum_of_a_listing_is_that_of_the_bytes(kind, cloud_store, json_api_store, local_store):
    store = {CloudStore: cloud_store, JsonApiStore: json_api_store, LocalStore: local_store}[kind]
    store.write("a", b"123456789")
    (item,) = store.list()
    assert item.crc32c == (None if kind is LocalStore else uploading.checksum(b"123456789"))
    assert uploading.checksum(b"123456789") == "4waSgw=="  # E3069283, the check value of CRC-32C
