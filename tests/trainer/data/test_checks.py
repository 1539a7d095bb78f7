"""Checking photos: every one is either usable or listed with its reason."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from classifier.errors import NotFound, Refused
from classifier.photo.preprocessing import load_array
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from trainer.data.checks import CheckedPhotos, check_photos, require_unchanged
from trainer.data.corrections import ids_in
from trainer.data.preparation import check_dataset
from trainer.data.source import PhotoSource, usable_memory
from trainer.run.sections import DataConfig

SPEC = InputSpec(width=16, height=16)


def _check(root: Path, rows: list[tuple[str, str, str]]) -> CheckedPhotos:
    return check_photos(pd.DataFrame(rows, columns=["image_path", "label", "split"]), root, SPEC)


@pytest.fixture
def root(tmp_path):
    for index, name in enumerate("abcdef"):
        photo_sets.write_photo(tmp_path / f"{name}.png", (100, 100, 100), index)
    return tmp_path


def test_good_photos_are_kept_as_they_are(root):
    checked = _check(root, [("a.png", "x", "train"), ("b.png", "y", "test")])
    assert checked.rejected.empty
    assert checked.frame["image_path"].tolist() == ["a.png", "b.png"]
    expected = load_array((root / "b.png").read_bytes(), SPEC)
    assert np.array_equal(checked.source.array(1), expected)


def test_every_unusable_photo_is_listed_with_its_reason(root):
    whole = (root / "a.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "text.jpg").write_text("not a photo")
    (root / "empty.jpg").write_bytes(b"")
    (root / "twin.png").write_bytes((root / "b.png").read_bytes())
    (root / "leak.png").write_bytes((root / "c.png").read_bytes())
    (root / "mixed.png").write_bytes((root / "d.png").read_bytes())
    names = ["a", "b", "c", "d", "twin", "leak"]
    rows = [(f"{name}.png", "x", "train") for name in names]
    rows[names.index("c")] = ("c.png", "x", "test")
    rows += [
        ("cut.png", "x", "train"),
        ("text.jpg", "x", "train"),
        ("empty.jpg", "x", "train"),
        ("nowhere.jpg", "x", "test"),
        ("mixed.png", "y", "train"),
        ("a.png", "x", "train"),
    ]
    checked = _check(root, rows)
    reasons = dict(zip(checked.rejected["image_path"], checked.rejected["reason"], strict=True))
    assert reasons.pop("cut.png").startswith("unreadable: ")
    assert reasons.pop("text.jpg").startswith("unreadable: ")
    assert reasons.pop("empty.jpg").startswith("unreadable: ")
    assert reasons == {
        "nowhere.jpg": "missing",
        "twin.png": "same bytes as b.png",
        "leak.png": "same bytes as c.png, which is in test",
        "d.png": "same bytes under several labels: x, y",
        "mixed.png": "same bytes under several labels: x, y",
        "a.png": "listed again (also in train)",
    }
    assert sorted(checked.frame["image_path"]) == ["a.png", "b.png", "c.png"]
    assert len(checked.frame) + len(checked.rejected) == len(rows)


def test_a_correction_goes_before_the_label_of_the_same_photo(root):
    """Photos that were corrected are in the training set, in the test set, or nowhere yet."""
    trained, tested = sorted(root.rglob("*.png"))[:2]
    names = [path.relative_to(root).as_posix() for path in (trained, tested)]
    (root / "c").mkdir()
    for name, path in (("one", trained), ("two", tested)):
        (root / f"c/{name}.png").write_bytes(path.read_bytes())
    corrections = ["c/one.png", "c/two.png"]
    rows = [
        (names[0], "wrong", "train"),
        (names[1], "wrong", "test"),
        *((each, "right", "train") for each in corrections),
    ]
    frame = pd.DataFrame(rows, columns=["image_path", "label", "split"])
    kept = check_photos(frame, root, SPEC, corrections=corrections)
    assert kept.frame[["image_path", "label", "split"]].to_numpy().tolist() == [
        [names[1], "right", "test"],
        ["c/one.png", "right", "train"],
    ]
    assert kept.rejected[["image_path", "reason"]].to_numpy().tolist() == [
        [names[0], "its label was corrected to right"],
        ["c/two.png", f"same bytes as {names[1]}, which is in test"],
    ]
    # Without corrections nobody knows which label is right; nor where two corrections say different things.
    assert len(check_photos(frame, root, SPEC).frame) == 0
    frame.loc[len(frame)] = ["c/three.png", "other", "train"]
    (root / "c/three.png").write_bytes(trained.read_bytes())
    assert (
        names[0] not in check_photos(frame, root, SPEC, corrections=[*corrections, "c/three.png"]).frame["image_path"]
    )


def test_a_correction_that_cannot_be_trained_on_is_counted_and_told_why(root, tmp_path_factory):
    """One of a photo that the data set has, with a label in two lines; and one like any other."""
    folder = tmp_path_factory.mktemp("corrections")
    photo_sets.write_photo(folder / "good.png", (250, 250, 0), 5)
    (folder / "bad.png").write_bytes((root / "a.png").read_bytes())
    table = folder / "corrections.csv"
    table.write_text('image_path,label,split\ngood.png,x,train\nbad.png,"a\nb",train\n')
    rows = [f"{name}.png,{label}" for name, label in zip("abcdef", "xyxyxy", strict=True)]
    (root / "photos.csv").write_text("\n".join(["image_path,label", *rows]))
    said = io.StringIO()
    config = DataConfig("csv", str(root), corrections=str(table))
    checked, _ = check_dataset(config, SPEC, Console(file=said, width=200))
    lines = said.getvalue().splitlines()
    assert "1 of 2 corrections are trained on" in lines
    assert "not on bad.png: a control character in its label" in lines
    (row,) = checked.rejected.to_dict("records")
    assert (root / row["image_path"]).resolve() == (folder / "bad.png").resolve()
    assert (row["label"], row["split"], row["reason"]) == ("a\\nb", "train", "a control character in its label")
    assert ids_in(checked.frame, config) == ["good"]


def test_a_reason_never_names_the_machine_s_folders(root):
    (root / "folder.png").mkdir()
    (root / "e.png").rename(root / "e.PNG")
    os.mkfifo(root / "pipe.png")
    (root / "device.png").symlink_to("/dev/zero")
    names = ("a.png", "folder.png", "e.png", "nul\0.png", "pipe.png", "device.png")
    checked = _check(root, [(name, "x", "train") for name in names])
    reasons = dict(zip(checked.rejected["image_path"], checked.rejected["reason"], strict=True))
    assert reasons == {
        "folder.png": "unreadable: Is a directory",
        "e.png": "missing: e.PNG is there instead",
        "nul\0.png": "unreadable: a NUL in its name",
        "pipe.png": "unreadable: not a file",
        "device.png": "unreadable: not a file",
    }


def test_photos_that_changed_or_went_away_are_named(root):
    checked = _check(root, [(f"{name}.png", "x", "train") for name in "abcdef"])
    rows = np.arange(6)
    require_unchanged(checked, rows)
    (root / "b.png").write_bytes(b"another")
    with pytest.raises(Refused, match=r"1 of 6 photos .* are changed: .*b\.png"):
        require_unchanged(checked, rows)
    require_unchanged(checked, np.array([0, 2]))
    for name in "acde":
        (root / f"{name}.png").unlink()
    with pytest.raises(NotFound, match=r"4 of 6 photos .* are missing: .*a\.png, .*c\.png, .*d\.png, \.\.\."):
        require_unchanged(checked, rows)


def test_the_fingerprint_changes_with_content_label_and_split_only(root):
    rows = [("a.png", "x", "train"), ("b.png", "y", "test")]
    first = _check(root, rows).fingerprint
    assert _check(root, rows[::-1]).fingerprint == first
    assert _check(root, [("a.png", "z", "train"), rows[1]]).fingerprint != first
    assert _check(root, [("a.png", "x", "validation"), rows[1]]).fingerprint != first
    (root / "a.png").write_bytes((root / "f.png").read_bytes())
    assert _check(root, rows).fingerprint != first


def test_the_cache_holds_what_fits_and_decodes_the_rest(root):
    paths = [root / f"{name}.png" for name in "abc"]
    source = PhotoSource(paths, SPEC, cache_bytes=2 * 16 * 16 * 3)
    first = [source.array(row) for row in range(3)]
    for path in paths:
        path.unlink()
    assert np.array_equal(source.array(0), first[0])
    assert np.array_equal(source.array(1), first[1])
    with pytest.raises(FileNotFoundError):
        source.array(2)


def test_a_selection_keeps_the_pixels_that_are_there(root):
    source = PhotoSource([root / f"{name}.png" for name in "abc"], SPEC)
    expected = [source.array(row) for row in range(3)]
    chosen = source.select(np.array([2, 0]))
    (root / "a.png").unlink()
    assert np.array_equal(chosen.array(0), expected[2])
    assert np.array_equal(chosen.array(1), expected[0])


def test_a_selection_gives_back_the_room_of_the_others(root):
    source = PhotoSource([root / f"{name}.png" for name in "abc"], SPEC, cache_bytes=2 * 16 * 16 * 3)
    source.array(0)
    source.array(1)
    chosen = source.select(np.array([1, 2]))
    expected = chosen.array(1)
    (root / "c.png").unlink()
    assert np.array_equal(chosen.array(1), expected)


def test_a_container_s_limit_counts(tmp_path):
    machine = usable_memory(tmp_path)
    assert machine > 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory(tmp_path) == machine
    (tmp_path / "memory.max").write_text("1048576\n")
    assert usable_memory(tmp_path) == 2**20
    (tmp_path / "memory.max").unlink()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("2097152\n")
    assert usable_memory(tmp_path) == 2**21
