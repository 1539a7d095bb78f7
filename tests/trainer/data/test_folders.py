"""Folders as they are: what systems leave in them, names that no table keeps, labels in two spellings."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console

from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from tests.support.processes import environment
from trainer.data.loaders import list_photos
from trainer.data.preparation import check_dataset
from trainer.run.sections import DataConfig


@pytest.fixture
def photos(tmp_path):
    return photo_sets.folder(tmp_path / "photos")


def _listing(root, **options):
    return list_photos(DataConfig("folder", str(root), **options))


@pytest.mark.parametrize(
    "system", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", "__MACOSX"]
)
def test_what_systems_leave_is_neither_a_class_nor_photos_of_one(photos, system):
    before = _listing(photos)
    photo = next(photos.rglob("*.png"))
    for folder in (photos / system, photos / "apple" / system / "x.png"):
        folder.mkdir(parents=True)
        shutil.copy(photo, folder / "SYNOPHOTO_THUMB_M.png")
    after = _listing(photos)
    assert after.frame.equals(before.frame)
    assert after.left_out.empty
    assert after.notes == (f"passed over: {system}",)


def test_one_label_in_two_unicode_forms_is_one_class(photos, tmp_path):
    root = tmp_path / "split"
    for split, form in (("train", "NFD"), ("test", "NFC")):
        for label in ("café", "pear"):
            target = root / split / unicodedata.normalize(form, label)
            target.mkdir(parents=True)
            for number, photo in enumerate(sorted((photos / "apple").glob("*.png"))[:3]):
                (target / f"{number}.png").write_bytes(photo.read_bytes() + f"{split}{label}".encode())
    listing = _listing(root)
    assert set(listing.frame["label"]) == {"café", "pear"}
    assert all((root / path).is_file() for path in listing.frame["image_path"]), "file names are never changed"
    asked = _listing(root, classes=(unicodedata.normalize("NFD", " café "), "pear"))
    assert asked.frame.equals(listing.frame)


def test_labels_that_are_nearly_the_same_are_told_with_their_counts(photos):
    shutil.copytree(photos / "apple", photos / "Apple")
    shutil.copytree(photos / "apple", photos / "red apple")
    shutil.copytree(photos / "apple", photos / "red_apple")
    count = len(list((photos / "apple").iterdir()))
    assert _listing(photos).notes == (
        f"warning: labels nearly the same: 'Apple' ({count} photos), 'apple' ({count} photos); "
        "each is a class of its own",
        f"warning: labels nearly the same: 'red apple' ({count} photos), 'red_apple' ({count} photos); "
        "each is a class of its own",
    )


def test_names_that_no_table_keeps_are_left_out_with_the_reason(photos):
    photo = next(photos.rglob("*.png")).read_bytes()
    odd = [b"caf\xe9.png", b"a\rb.png", b"a\nb.png", b"a\x1b[2Jb.png"]
    for number, name in enumerate(odd):
        (photos / "apple" / os.fsdecode(name)).write_bytes(photo + bytes([number]))
    listing = _listing(photos)
    assert not listing.frame["image_path"].str.contains("caf|\r|\n|\x1b").any()
    assert dict(zip(listing.left_out["image_path"], listing.left_out["reason"], strict=True)) == {
        "apple/caf\\xe9.png": "its name is not UTF-8",
        "apple/a\\rb.png": "a control character in its name",
        "apple/a\\nb.png": "a control character in its name",
        "apple/a\\x1b[2Jb.png": "a control character in its name",
    }


def test_a_class_folder_without_photos_is_told(photos):
    (photos / "plum").mkdir()
    (photos / "fig" / "notes").mkdir(parents=True)
    assert _listing(photos).notes == ("warning: no photo in fig, plum: no such class",)


def test_photos_without_a_label_beside_the_classes_are_not_rejected(photos, tmp_path):
    root = tmp_path / "competition"
    shutil.copytree(photos, root / "train")
    (root / "test").mkdir()
    for number, photo in enumerate(sorted(photos.rglob("*.png"))):
        shutil.copy(photo, root / "test" / f"{number}.png")
    console = Console(record=True, width=200, file=io.StringIO())
    checked, _ = check_dataset(DataConfig("folder", str(root)), InputSpec(32, 32), console)
    assert checked.rejected.empty
    assert set(checked.frame["split"]) == {"train", "validation", "test"}
    count = len(list(photos.rglob("*.png")))
    assert f"{count} photos directly in test/ have no label: passed over" in console.export_text()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_a_label_gets_escapes(photos, encoding):
    (photos / "apple").rename(photos / "りんご")
    command = [Path(sys.executable).parent / "trainer", "datasets", "--dataset", "folder", "--data-dir", photos]
    done = subprocess.run(command, env=environment() | {"PYTHONIOENCODING": encoding}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert rb"\u308a\u3093\u3054" in done.stdout
