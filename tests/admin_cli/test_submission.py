"""`admin_cli predict --format`: a submission in Kaggle's layout, and a table of one photo."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.commands import Cli, cli_fixture, photo_fixture  # noqa: F401  # fixtures

KAGGLE = ("--format", "kaggle-dog-breed")


@pytest.fixture
def where(published: Path) -> tuple[str | Path, ...]:
    return "--store", published


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "test"
    folder.mkdir()
    for label in ("red", "green"):
        (folder / f"000{label}.jpg").write_bytes(colour_photo(label))
    return folder


@pytest.mark.parametrize("options", [(), ("--tta",), ("--version", "v1")])
def test_a_submission_has_each_photo_s_probabilities(
    cli: Cli, where: tuple[str | Path, ...], photos: Path, options: tuple[str, ...]
) -> None:
    said = cli("predict", photos, *KAGGLE, *options, *where).well()
    assert said.splitlines()[0] == "id," + ",".join(TINY_LABELS)  # as labels.csv writes them, sorted
    rows = list(csv.DictReader(io.StringIO(said)))
    assert [row["id"] for row in rows] == ["000green", "000red"]
    for row, label in zip(rows, ("green", "red"), strict=True):
        values = {name: float(row[name]) for name in TINY_LABELS}
        assert sum(values.values()) == pytest.approx(1, abs=1e-8)
        assert max(values, key=values.__getitem__) == label and min(values.values()) > 0


def test_a_submission_is_whole_or_there_is_none(cli: Cli, where: tuple[str | Path, ...], photos: Path) -> None:
    (photos / "more").mkdir()
    (photos / "more/000red.png").write_bytes(colour_photo("red"))
    assert "share one. Rename" in cli("predict", photos, *KAGGLE, *where).failed(2)
    (photos / "more/000red.png").rename(photos / "broken.png")
    (photos / "broken.png").write_bytes(b"none")
    assert "broken.png: Expected" in cli("predict", photos, *KAGGLE, *where).failed(2)
    assert "received --url" in cli("predict", photos, *KAGGLE, "--url", "http://localhost:1").failed(2)
    for other in (("--json",), ("--gradcam", "x.png")):
        assert "with one of them" in cli("predict", photos, *KAGGLE, *other, *where).failed(2)


def test_one_photo_is_a_table_where_that_is_asked_for(cli: Cli, where: tuple[str | Path, ...], photo: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(cli("predict", photo, "--format", "csv", *where).well()))
    assert (row["photo"], row["label"], row["status"]) == (str(photo), "red", "ok")
