"""Tables as people have them: separators, encodings, paths of Windows, cells that are empty or hold two labels."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from classifier.errors import InvalidRequest, InvalidSetting, NotFound
from tests.support import photo_sets
from trainer.data.loaders import list_photos
from trainer.data.tables import read_table
from trainer.main import app
from trainer.run.sections import DataConfig

COLUMNS = ("image_path", "label")


@pytest.fixture
def photos(tmp_path):
    return photo_sets.folder(tmp_path / "photos")


def _rows(photos):
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    return [("image_path", "label"), *((name, name.split("/")[0]) for name in names)]


def _write(path, rows, separator, encoding):
    path.write_bytes("\r\n".join(separator.join(row) for row in rows).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "windows-1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_is_read_as_it_is_and_what_was_assumed_is_told(photos, tmp_path, separator, encoding):
    rows = [(path, "crème brûlée" if label == "apple" else label) for path, label in _rows(photos)]
    table = _write(tmp_path / "t.csv", rows, separator, encoding)
    listing = list_photos(DataConfig("csv", str(photos), csv=str(table)))
    assert set(listing.frame["label"]) == {"crème brûlée", *(label for _, label in _rows(photos)[1:])} - {"apple"}
    assert len(listing.frame) == len(rows) - 1
    told = " ".join(listing.notes)
    names = {",": "", ";": "semicolons between", "\t": "tabs between", "|": "bars between"}
    assert names[separator] in told
    assert ("Windows-1252" in told) == (encoding == "windows-1252")
    assert ("UTF-16" in told) == encoding.startswith("utf-16")
    assert bool(told) == (separator != "," or encoding not in ("utf-8", "utf-8-sig"))


def test_the_options_decide_where_a_table_does_not_tell(tmp_path):
    table = tmp_path / "t.csv"
    table.write_bytes("image_path;label\na.png;čeština\n".encode("windows-1250"))
    assert read_table(table, COLUMNS).frame["label"][0] != "čeština"
    assert read_table(table, COLUMNS, encoding="windows-1250").frame["label"][0] == "čeština"
    table.write_bytes(b"image_path,label\na.png,\x81\x8d\n")
    with pytest.raises(InvalidRequest, match=r"neither in UTF-8 nor in Windows-1252.*Name its encoding"):
        read_table(table, COLUMNS)
    with pytest.raises(InvalidRequest, match=r"is not utf-8:.*Name another one with --encoding"):
        read_table(table, COLUMNS, encoding="utf-8")
    with pytest.raises(InvalidSetting, match="Expected --encoding to name one such as utf-8"):
        read_table(table, COLUMNS, encoding="klingon")
    with pytest.raises(InvalidSetting, match="Expected --separator to be one of"):
        read_table(table, COLUMNS, separator="x", encoding="latin-1")
    table.write_text("image_path,label;image_path;label\na.png,x;b.png;y\n")
    # "image_path" and "label" by semicolons only: the comma's head has "label;image_path;label".
    assert list(read_table(table, COLUMNS).frame["label"]) == ["y"]
    table.write_text("image_path,label,;image_path;label\n")
    with pytest.raises(InvalidRequest, match="between commas or semicolons: say which with --separator"):
        read_table(table, COLUMNS)
    assert read_table(table, COLUMNS, separator=";").assumed == "t.csv was read with semicolons between columns"


def test_paths_of_windows_are_read_with_slashes(photos, tmp_path):
    rows = [(path.replace("/", "\\"), label) for path, label in _rows(photos)]
    listing = list_photos(DataConfig("csv", str(photos), csv=str(_write(tmp_path / "t.csv", rows, ",", "utf-8"))))
    assert sorted(listing.frame["image_path"]) == sorted(path for path, _ in _rows(photos)[1:])
    assert listing.notes == (r"paths with \ were read as with /",)


def test_a_row_without_a_label_is_rejected_and_the_others_stay(photos, tmp_path):
    rows = _rows(photos)
    rows[1], rows[2], rows[3] = (rows[1][0], ""), (rows[2][0], "  "), ("", "apple")
    listing = list_photos(DataConfig("csv", str(photos), csv=str(_write(tmp_path / "t.csv", rows, ",", "utf-8"))))
    assert list(listing.left_out["reason"]) == ["no label", "no label", "no path"]
    assert len(listing.frame) == len(rows) - 4


def test_two_labels_in_a_cell_are_told(photos, tmp_path):
    rows = _rows(photos)
    rows[1] = (rows[1][0], "apple|pear")
    listing = list_photos(DataConfig("csv", str(photos), csv=str(_write(tmp_path / "t.csv", rows, ",", "utf-8"))))
    assert any("'apple|pear' looks like several labels; a photo has one" in note for note in listing.notes)


def test_photos_are_looked_for_beside_the_table_and_one_error_tells_where(photos):
    table = _write(photos / "t.csv", _rows(photos), ";", "utf-8")
    done = CliRunner().invoke(app, ["datasets", "--dataset", "csv", "--csv", str(table)])
    assert done.exit_code == 0, done.output
    assert "t.csv was read with semicolons between columns" in done.output
    assert f"{len(_rows(photos)) - 1} photos, 0 rejected" in done.output
    moved = _write(photos.parent / "t.csv", _rows(photos), ",", "utf-8")
    done = CliRunner().invoke(app, ["datasets", "--dataset", "csv", "--csv", str(moved)])
    assert isinstance(done.exception, NotFound)
    assert f"the first was looked for at {photos.parent}/apple/" in str(done.exception)
    assert "--data-dir" in str(done.exception)
    assert "rejected:" not in done.output


def test_datasets_takes_the_columns_that_train_takes(photos):
    rows = [("file", "what"), *_rows(photos)[1:]]
    table = _write(photos / "t.csv", rows, ",", "utf-8")
    named = ["--image-column", "file", "--label-column", "what"]
    done = CliRunner().invoke(app, ["datasets", "--dataset", "csv", "--csv", str(table), *named])
    assert done.exit_code == 0, done.output
