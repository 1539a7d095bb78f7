"""Photos in buckets: names of all kinds, folders, who pays, and a million names without holding them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator

import pytest

from batch.listing import listing, read
from classifier.errors import InvalidSetting, MissingStore, NotFound
from tests.support.photo_buckets import PAYS, PHOTOS, photo_buckets, put
from tests.support.processes import environment

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "crème/é.jpg") for form in ("NFC", "NFD"))
NAMES = (
    "a b.jpg", "c#1.jpg", "d?x=1&y.jpg", "e%20f.jpg", "plus+.jpg", COMPOSED, DECOMPOSED, "deep/er/g.JPEG", "odd//h.jpg",
    "empty.jpg", "new\nline.jpg", "写真/寿司.jpg",
)  # fmt: skip
OTHERS = ("notes.txt", "deep/.hidden.jpg")
FOLDERS = ("deep/", "empty folder/")


@pytest.fixture(scope="module", name="emulator")
def emulator_fixture() -> Iterator[str]:
    with photo_buckets() as emulator:
        for name in (*NAMES, *OTHERS):
            put(emulator, PHOTOS, name, b"" if name == "empty.jpg" else name.encode())
        for name in FOLDERS:
            put(emulator, PHOTOS, name, b"")
        put(emulator, PAYS, "x.jpg", b"paid")
        yield emulator


@pytest.fixture(autouse=True)
def no_credentials(emulator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)


def test_every_name_that_a_bucket_can_hold_is_listed_and_read() -> None:
    found = listing(f"gs://{PHOTOS}")
    photos = {photo.path.removeprefix(f"gs://{PHOTOS}/"): photo for photo in found.photos}
    assert set(photos) == set(NAMES) and COMPOSED != DECOMPOSED
    assert (found.folders, found.others) == (len(FOLDERS), len(OTHERS))
    for name, photo in photos.items():
        assert read(photo) == (b"" if name == "empty.jpg" else name.encode())
        assert photo.size == len(read(photo)) and photo.generation > 0


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**", {*NAMES, *OTHERS}),
        ("deep/**", {"deep/er/g.JPEG", "deep/.hidden.jpg"}),
        ("crème/*.jpg", {COMPOSED, DECOMPOSED}),
        ("写真/*", {"写真/寿司.jpg"}),
        ("?#1.jpg", {"c#1.jpg"}),
    ],
)
def test_patterns_take_what_matches_however_an_accent_is_written(pattern: str, names: set[str]) -> None:
    assert {photo.path for photo in listing(f"gs://{PHOTOS}/{pattern}").photos} == {
        f"gs://{PHOTOS}/{name}" for name in names
    }


def test_a_folder_one_photo_and_a_table() -> None:
    assert [photo.path for photo in listing(f"gs://{PHOTOS}/deep").photos] == [f"gs://{PHOTOS}/deep/er/g.JPEG"]
    assert [photo.path for photo in listing(f"gs://{PHOTOS}/a b.jpg").photos] == [f"gs://{PHOTOS}/a b.jpg"]
    paths = ["c#1.jpg", f"gs://{PHOTOS}/odd//h.jpg", "gone.jpg"]
    put(_host(), PHOTOS, "lists/some.jsonl", "\n".join(json.dumps({"path": each}) for each in paths).encode())
    found = listing(f"gs://{PHOTOS}/lists/some.jsonl")
    assert [photo.path for photo in found.photos] == [f"gs://{PHOTOS}/odd//h.jpg"]
    assert (found.missing, found.gone) == (2, [f"gs://{PHOTOS}/lists/c#1.jpg", f"gs://{PHOTOS}/lists/gone.jpg"])


def test_a_photo_that_was_replaced_or_deleted_is_not_read() -> None:
    put(_host(), PHOTOS, "later/x.jpg", b"one")
    (photo,) = listing(f"gs://{PHOTOS}/later/x.jpg").photos
    put(_host(), PHOTOS, "later/x.jpg", b"another")
    with pytest.raises(NotFound, match="gone or was replaced"):
        read(photo)
    with pytest.raises(NotFound, match="gone or was replaced"):
        read(photo._replace(path=f"gs://{PHOTOS}/later/none.jpg"))


def test_who_pays_has_to_be_named_where_requesters_pay() -> None:
    with pytest.raises(InvalidSetting, match="Expected --billing-project PROJECT for gs://photos-pays"):
        list(listing(f"gs://{PAYS}/**").photos)
    (photo,) = listing(f"gs://{PAYS}/**", "my-project").photos
    assert read(photo, "my-project") == b"paid"
    with pytest.raises(InvalidSetting, match="--billing-project"):
        read(photo)


def test_a_bucket_that_is_not_there_is_told() -> None:
    with pytest.raises(MissingStore, match="no bucket 'nowhere'"):
        list(listing("gs://nowhere/**").photos)
    with pytest.raises(InvalidSetting, match="Expected"):
        listing("gs://Not A Bucket/**")


MEMORY = """
import sys
from batch.listing import listing
from batch.plan import Plan
from pathlib import Path
def peak():  # not ru_maxrss, which begins with that of whoever started this process
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
with Plan() as plan:
    plan.list(listing(sys.argv[1]).photos)
    print(plan.count_todo(), peak())
"""


def test_a_listing_streams_whatever_the_number_of_names(emulator: str) -> None:
    counts, memory = zip(*(_measured(emulator, number) for number in (2_000, 60_000)), strict=True)
    assert counts == (2_000, 60_000)
    assert memory[1] - memory[0] < 8_000  # KiB; the names alone have 2.4 MB, as blobs of the library they take 100


def _measured(emulator: str, names: int) -> tuple[int, ...]:
    env = {**environment(), "STORAGE_EMULATOR_HOST": emulator}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, f"gs://generated-{names}/**/*.jpg"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def _host() -> str:

    return os.environ["STORAGE_EMULATOR_HOST"]
