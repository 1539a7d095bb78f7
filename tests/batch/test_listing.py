"""Which photos there are: folders, patterns and tables on a disk; `beam_buckets.py` has those in buckets."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from batch.listing import listing, read
from classifier.errors import InvalidRequest, NotFound

NAMES = (
    "a b.jpg", "c#1.png", "d?.jpg", unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg"),
    "sub/deep/f.JPEG", "notes.txt", ".hidden.jpg",
)  # fmt: skip


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def test_a_folder_has_its_photos_by_their_names(folder: Path) -> None:
    found = listing(str(folder))
    photos = {photo.path: photo for photo in found.photos}
    assert set(photos) == {f"{folder}/{name}" for name in NAMES[:6]}
    assert (found.others, found.folders) == (2, 0)
    for path, photo in photos.items():
        status = Path(path).stat()
        assert (photo.generation, photo.size) == (status.st_mtime_ns, status.st_size)
        assert read(photo) == Path(path).read_bytes()
    assert found.covers(f"{folder}/new.jpg") and not found.covers("/elsewhere/new.jpg")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*.jpg", {NAMES[0], NAMES[2], NAMES[3], NAMES[4], NAMES[7]}),
        ("*.txt", {"notes.txt"}),
        ("sub/**", {"sub/deep/f.JPEG"}),
        ("é.*", {NAMES[3], NAMES[4]}),
        ("d?.jpg", {"d?.jpg"}),
    ],
)
def test_a_pattern_takes_what_matches(folder: Path, pattern: str, names: set[str]) -> None:
    found = listing(f"{folder}/{pattern}")
    assert {photo.path for photo in found.photos} == {f"{folder}/{name}" for name in names}
    assert found.covers(f"{folder}/{min(names)}") and not found.covers(f"{folder}/x.gif")


def test_one_photo_is_one(folder: Path) -> None:
    assert [photo.path for photo in listing(f"{folder}/a b.jpg").photos] == [f"{folder}/a b.jpg"]


def test_a_name_that_is_no_text_is_escaped_and_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.jpg")
    try:
        (tmp_path / name).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such name")
    (photo,) = listing(str(tmp_path)).photos
    assert photo.path == f"{tmp_path}/\\xff\\xfe.jpg" and read(photo) == b"x"


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_names_photos_by_paths_beside_it_or_whole(folder: Path, ending: str) -> None:
    paths = ["a b.jpg", f"{folder}/c#1.png", "sub/deep/f.JPEG", "not/there.jpg"]
    table = folder / f"list.{ending}"
    if ending == "csv":
        table.write_text("\ufeffimage_path,label\n" + "".join(f'"{path}",x\n' for path in paths))
    else:
        table.write_text("\n\n".join(json.dumps({"path": path}) for path in paths))
    found = listing(str(table))
    assert [photo.path for photo in found.photos] == [f"{folder}/{name}" for name in ("a b.jpg", "c#1.png", NAMES[5])]
    assert (found.missing, found.gone) == (1, [f"{folder}/not/there.jpg"])


def test_a_table_that_tells_generations_is_believed(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("bucket,name,generation,size\nphotos,a/b c.jpg,17,99\n")
    assert [tuple(photo) for photo in listing(str(table)).photos] == [("gs://photos/a/b c.jpg", 17, 99, None)]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.csv", b"file\na.jpg\n", "Expected a path in row 1 of .*received the columns file"),
        ("x.jsonl", b'{"path": "a"', "Expected a table in UTF-8 at"),
        ("x.jsonl", b'["a"]', "Expected an object with a path in row 1"),
        ("x.csv", b"path\n\xff\n", "Expected a table in UTF-8 at"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=told):
        list(listing(str(tmp_path / name)).photos)


def test_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing is there"):
        listing(str(tmp_path / "none"))
    with pytest.raises(NotFound, match="Expected a table of paths"):
        list(listing(str(tmp_path / "none.csv")).photos)
    assert list(listing(str(tmp_path / "none" / "**")).photos) == []


def test_a_photo_that_was_changed_since_it_was_listed_is_not_read(folder: Path) -> None:
    (photo,) = listing(f"{folder}/a b.jpg").photos
    (folder / "a b.jpg").write_bytes(b"another")
    os.utime(folder / "a b.jpg", ns=(1, 1))
    with pytest.raises(NotFound, match="gone or was changed"):
        read(photo)
    (folder / "a b.jpg").unlink()
    with pytest.raises(NotFound, match="gone or was changed"):
        read(photo)


def test_links_are_photos_and_those_that_lead_nowhere_are_none(folder: Path) -> None:
    (folder / "link.jpg").symlink_to(folder / "a b.jpg")
    (folder / "nowhere.jpg").symlink_to(folder / "none.jpg")
    names = {Path(photo.path).name for photo in listing(str(folder)).photos}
    assert "link.jpg" in names and "nowhere.jpg" not in names
