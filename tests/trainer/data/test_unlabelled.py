"""Photos without labels: which of a folder, or of a bucket, are trained on, and where they stand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound
from classifier.registry.manifest import InputSpec
from classifier.storage.cloud import CloudStore
from tests.support import photo_sets
from trainer.data.checks import CheckedPhotos, check_photos
from trainer.data.mirror import MIRROR_VARIABLE
from trainer.data.unlabelled import USED, with_those_of, with_unlabelled

QUIET = Console(file=io.StringIO())


@pytest.fixture
def photos(tmp_path: Path) -> CheckedPhotos:
    """Two, of which one tests."""
    for name, seed in (("a.png", 1), ("b.png", 2)):
        photo_sets.write_photo(tmp_path / "data" / name, (200, 40, 40), seed)
    frame = pd.DataFrame({"image_path": ["a.png", "b.png"], "label": ["x", "y"], "split": ["train", "test"]})
    return check_photos(frame, tmp_path / "data", InputSpec(8, 8))


def test_they_come_from_a_bucket_and_stand_behind_the_data_set(
    cloud_store: CloudStore, photos: CheckedPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "mirror"))
    for number in range(3):
        photo_sets.write_photo(tmp_path / "up" / f"{number}.png", (40, 40, 200), 30 + number)
        cloud_store.write(f"{number}.png", (tmp_path / "up" / f"{number}.png").read_bytes())
    cloud_store.write("of-the-test.png", (tmp_path / "data/b.png").read_bytes())
    found, table = with_unlabelled(photos, cloud_store.url, QUIET)
    assert table["image_path"][table["reason"] == USED].tolist() == ["0.png", "1.png", "2.png"]
    assert table.set_index("image_path").at["of-the-test.png", "reason"] == "same bytes as b.png, which is in test"
    assert len(found.source) == 5 and found.frame.equals(photos.frame) and found.fingerprint == photos.fingerprint
    for row in range(2):
        assert np.array_equal(found.source.array(row), photos.source.array(row))
    blue = found.source.array(3).reshape(-1, 3).mean(axis=0)
    assert blue[2] > blue[0] + 30
    # Another process takes the same ones by the table.
    table.to_csv(tmp_path / "table.csv", index=False)
    again = with_those_of(photos, tmp_path / "table.csv", cloud_store.url)
    assert again.unlabelled_fingerprint == found.unlabelled_fingerprint != ""
    assert all(np.array_equal(again.source.array(row), found.source.array(row)) for row in range(5))


def test_a_folder_without_any_of_use_is_refused(photos: CheckedPhotos, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"at --unlabelled .*; there is none"):
        with_unlabelled(photos, str(tmp_path / "nothing"), QUIET)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/photo.jpg").write_bytes(b"no photo")
    with pytest.raises(InvalidRequest, match="1 were found, 1 of them unreadable or there twice, 0 in the data set"):
        with_unlabelled(photos, str(tmp_path / "broken"), QUIET)
    with pytest.raises(InvalidRequest, match="2 were found, 0 of them unreadable or there twice, 2 in the data set"):
        with_unlabelled(photos, str(tmp_path / "data"), QUIET)


def test_pixels_are_kept_while_there_is_room_for_both(photos: CheckedPhotos, tmp_path: Path) -> None:
    for number in range(3):
        photo_sets.write_photo(tmp_path / "up" / f"{number}.png", (40, 40, 200), 30 + number)
    of_one = 8 * 8 * 3
    frame = photos.frame.drop(columns="sha256")
    tight = check_photos(frame, tmp_path / "data", InputSpec(8, 8), cache_bytes=3 * of_one)
    found, _ = with_unlabelled(tight, str(tmp_path / "up"), QUIET)
    assert sorted(found.source._pixels)[:2] == [0, 1] and len(found.source._pixels) == 3
    assert found.source.room == 0
    assert found.source.array(4).shape == (8, 8, 3)
