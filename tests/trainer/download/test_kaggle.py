"""Dog Breed through Kaggle's command line, for which a stand-in answers here."""

from __future__ import annotations

import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from classifier.errors import Corrupt, NotFound, Unavailable
from tests.support import photo_sets
from tests.support.download_server import files_in
from trainer.data.loaders import list_photos
from trainer.download import datasets
from trainer.main import app
from trainer.run.sections import DataConfig

KAGGLE = """#!{python}
import shutil, sys
print("fake kaggle:", *sys.argv[1:])
if {code}:
    sys.exit("403 Client Error: Forbidden for url")
assert sys.argv[1:-1] == ["competitions", "download", "-c", "dog-breed-identification", "-p"], sys.argv
if {archive!r}:
    shutil.copyfile({archive!r}, sys.argv[-1] + "/dog-breed-identification.zip")
"""


def _kaggle(folder: Path, monkeypatch: pytest.MonkeyPatch, archive: Path | None = None, code: int = 0) -> None:
    """Put a stand-in first on PATH: the real `kaggle` needs an account and the network, which tests have not.

    It is called as kaggle 2.2 documents it, and leaves or says what that does.
    """
    program = folder / "bin" / "kaggle"
    program.parent.mkdir(exist_ok=True)
    program.write_text(KAGGLE.format(python=sys.executable, code=code, archive=str(archive or "")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def dogs(tmp_path) -> Path:
    """Kaggle's archive in small: labels.csv, train/ and test/, which has no labels."""
    root = photo_sets.dog_breed(tmp_path / "dogs", photos=3)
    path = tmp_path / "dogs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for photo in sorted(root.rglob("*.*")):
            archive.write(photo, photo.relative_to(root))
        archive.write(photo, "test/unlabelled.jpg")
        archive.writestr("sample_submission.csv", "id,affenpinscher\n")
    return path


def test_dog_breed_comes_through_kaggle_s_command(dogs, tmp_path, monkeypatch, capfd):
    _kaggle(tmp_path, monkeypatch, dogs)
    folder = tmp_path / "data" / "dog-breed"
    app(["download", "dog-breed", str(folder)], standalone_mode=False)
    assert "fake kaggle: competitions download" in capfd.readouterr().out
    assert files_in(folder) == files_in(tmp_path / "dogs")
    assert len(list_photos(DataConfig("dog-breed", str(folder))).frame) == 9
    _kaggle(tmp_path, monkeypatch, code=1)
    app(["download", "dog-breed", str(folder)], standalone_mode=False)
    assert capfd.readouterr().out == f"dog-breed was already in {folder}\n"


def test_without_kaggle_it_is_said_how_to_get_it(tmp_path, monkeypatch, console):
    monkeypatch.setenv("PATH", str(tmp_path))
    steps = r"pip install kaggle.*/c/dog-breed-identification/rules.*kaggle\.com/settings/api.*unpack labels\.csv"
    with pytest.raises(NotFound, match=rf"there is no `kaggle`\..*{steps}"):
        datasets.download_dog_breed(tmp_path / "dogs", console)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [0, 1])
def test_where_kaggle_fails_it_is_said_what_it_needs(tmp_path, monkeypatch, console, capfd, code):
    _kaggle(tmp_path, monkeypatch, code=code)
    what = "ended with exit code 1" if code else "left no dog-breed-identification.zip"
    with pytest.raises(Unavailable, match=rf"`kaggle competitions download` {what}; .* accept the competition's rules"):
        datasets.download_dog_breed(tmp_path / "breeds", console)
    assert "fake kaggle" in capfd.readouterr().out
    assert not (tmp_path / "breeds").exists()


def test_a_damaged_archive_of_kaggle_s_is_removed(dogs, tmp_path, monkeypatch, console):
    whole = dogs.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:300] + b"?" * 100 + whole[400:]):
        dogs.write_bytes(damaged)
        _kaggle(tmp_path, monkeypatch, dogs)
        with pytest.raises(Corrupt, match=r"dog-breed-identification\.zip cannot be unpacked"):
            datasets.download_dog_breed(tmp_path / "breeds", console)
        assert not (tmp_path / "breeds").exists()
        assert not list((tmp_path / "breeds.partial").glob("*.zip"))
    dogs.write_bytes(whole)
    assert datasets.download_dog_breed(tmp_path / "breeds", console)
