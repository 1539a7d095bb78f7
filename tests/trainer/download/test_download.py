"""Downloading data sets: resumed, verified, unpacked safely, in place only when whole; over real HTTP."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from classifier.errors import Conflict, Corrupt, InvalidRequest, InvalidSetting, NotFound, Refused, Unavailable
from tests.support import photo_sets
from tests.support.download_server import Served, archive_of, archive_with, files_in, member_of, serving
from tests.support.killpoints import kill_everywhere
from tests.support.processes import ROOT, environment
from trainer.data.loaders import list_photos
from trainer.download import datasets
from trainer.download.transfer import ATTEMPTS, fetch
from trainer.main import app
from trainer.run.sections import DataConfig


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return photo_sets.food_101(tmp_path_factory.mktemp("photos"), train=2, test=1)


@pytest.fixture(scope="module")
def archive(photos) -> bytes:
    return archive_of(photos)


@pytest.fixture
def server(archive, monkeypatch) -> Iterator[Served]:
    """Serves a small archive in Food-101's place."""
    with serving(archive) as served:
        monkeypatch.setattr(datasets, "FOOD_101", served.remote())
        yield served


def _get(folder: Path, console: Console, **options) -> bool:
    return datasets.download_food_101(folder, console, pause=0.001, **options)


def test_the_official_archive_is_what_others_record():
    # size and sha256: TensorFlow Datasets, url_checksums/food101.txt
    assert datasets.FOOD_101.url == "https://data.vision.ee.ethz.ch/cvl/food-101.tar.gz"
    assert datasets.FOOD_101.size == 4996278331
    assert datasets.FOOD_101.sha256 == "d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4"


def test_food_101_is_downloaded_once_and_loads(server, photos, tmp_path, console):
    folder = tmp_path / "data" / "food"
    assert _get(folder, console)
    assert files_in(folder) == files_in(photos)
    assert [path.name for path in folder.parent.iterdir()] == ["food"]
    assert len(list_photos(DataConfig("food-101", str(folder))).frame) == 9
    server.requests.clear()
    assert not _get(folder, console)
    assert not server.requests


def test_the_command_says_what_it_did(server, tmp_path, capsys, monkeypatch):
    empty = tmp_path / "food"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(datasets, "FOOD_101", replace(datasets.FOOD_101, url="http://127.0.0.1:9/elsewhere"))
    app(["download", "food-101", ".", "--url", server.url], standalone_mode=False)
    app(["download", "food-101", str(empty)], standalone_mode=False)
    assert capsys.readouterr().out.splitlines() == ["food-101 is in .", f"food-101 was already in {empty}"]


def test_dropped_connections_are_resumed_where_they_were_cut(server, archive, tmp_path, console):
    server.replies = [1000, 1500, 0, 503, 700]
    path = tmp_path / "file"
    fetch(server.remote(), path, console, pause=0.001)
    assert path.read_bytes() == archive
    assert server.asked == [None, "bytes=1000-", "bytes=2500-", "bytes=2500-", "bytes=2500-", "bytes=3200-"]
    assert {headers.get("If-Range") for headers in server.requests[1:]} == {'"first"'}
    assert {headers["Accept-Encoding"] for headers in server.requests} == {"identity"}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    said = console.file.getvalue()
    assert "the server answered 503; trying again in 0 s" in said


def test_a_server_that_gives_up_leaves_what_came_for_the_next_time(server, archive, tmp_path, console):
    server.replies = [1000, *[503] * ATTEMPTS]
    with pytest.raises(Unavailable, match=rf"503, {ATTEMPTS} times in a row\. 1000 of {len(archive)} bytes are kept"):
        _get(tmp_path / "food", console)
    assert not (tmp_path / "food").exists()
    server.requests.clear()
    assert _get(tmp_path / "food", console)
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_starts_again(server, archive, tmp_path, console):
    server.ranges = False
    server.replies = [1000]
    fetch(server.remote(), tmp_path / "file", console, pause=0.001)
    assert (tmp_path / "file").read_bytes() == archive
    assert server.asked == [None, "bytes=1000-"]


def test_a_file_that_changed_on_the_server_starts_again(server, archive, tmp_path, console):
    server.data = archive[::-1]
    server.replies = [1000, *[503] * ATTEMPTS]
    with pytest.raises(Unavailable):
        fetch(replace(server.remote(), sha256=hashlib.sha256(archive).hexdigest()), tmp_path / "file", console, pause=0)
    server.data, server.etag = archive, '"second"'
    server.requests.clear()
    fetch(server.remote(), tmp_path / "file", console, pause=0.001)
    assert (tmp_path / "file").read_bytes() == archive
    assert [headers.get("If-Range") for headers in server.requests] == ['"first"']


@pytest.mark.parametrize("left", ["wrong", "too long"])
def test_a_beginning_that_does_not_fit_costs_one_more_download(server, archive, tmp_path, console, left):
    # Without an ETag nothing tells the server what the beginning is of.
    server.etag = None
    partial = tmp_path / "file.partial"
    partial.write_bytes(b"?" * (500 if left == "wrong" else len(archive) + 1))
    fetch(server.remote(), tmp_path / "file", console, pause=0.001)
    assert (tmp_path / "file").read_bytes() == archive
    assert server.asked == (["bytes=500-", None] if left == "wrong" else [None])


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, archive, tmp_path, console):
    server.data = archive[:-1] + b"?"
    with pytest.raises(Corrupt, match=rf"Expected sha256 {datasets.FOOD_101.sha256} of .*; received [0-9a-f]{{64}}\."):
        _get(tmp_path / "food", console)
    assert not (tmp_path / "food").exists()
    assert files_in(tmp_path / "food.partial") <= {"lock", "food-101.tar.gz.partial.json"}
    assert len(server.requests) == 1


def test_another_size_is_refused_before_it_is_downloaded(server, archive, tmp_path, console):
    server.data = archive + b"?"
    with pytest.raises(
        Corrupt, match=rf"a file of {len(archive)} bytes at .*; the server has one of {len(archive) + 1}"
    ):
        _get(tmp_path / "food", console)
    assert not (tmp_path / "food.partial" / "food-101.tar.gz.partial").exists()


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_is_not_there_is_not_asked_for_again(server, tmp_path, console, status):
    server.replies = [status]
    with pytest.raises(NotFound, match=rf"the server answered {status}\. Give another address with --url"):
        _get(tmp_path / "food", console)
    assert len(server.requests) == 1


def test_an_address_that_leads_nowhere(tmp_path, console):
    with pytest.raises(
        Unavailable, match=r"http://127.0.0.1:9/x cannot be downloaded: Failed to .*refused, 6 times in a row"
    ):
        _get(tmp_path / "food", console, url="http://127.0.0.1:9/x")
    for url in ("food.tar.gz", "file:///etc/passwd", "http://"):
        with pytest.raises(InvalidSetting, match=r"Expected https://\.\.\. or http://\.\.\. with --url"):
            _get(tmp_path / "food", console, url=url)


def test_other_files_are_left_alone(server, photos, tmp_path, console):
    (tmp_path / "food").mkdir()
    (tmp_path / "food" / "thesis.doc").write_text("years of work")
    with pytest.raises(Refused, match="holds other files: Expected Food-101's split table"):
        _get(tmp_path / "food", console)
    assert files_in(tmp_path / "food") == {"thesis.doc"}
    shutil.copytree(photos, tmp_path / "cut")
    (tmp_path / "cut/images/apple/1.jpg").unlink()
    with pytest.raises(Refused, match=r"1 of 9 photos are missing, such as images/apple/1\.jpg"):
        _get(tmp_path / "cut", console)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(Refused, match="holds other files"):
        _get(tmp_path / "file", console)
    assert not server.requests


def test_a_disk_without_room_is_refused_before_anything_is_downloaded(server, tmp_path, console, monkeypatch):
    monkeypatch.setattr(datasets, "FOOD_101", replace(datasets.FOOD_101, size=2**60))
    with pytest.raises(Refused, match=r"Expected 2305843009\.2 GB of free disk"):
        _get(tmp_path / "food", console)
    assert not server.requests


def test_two_downloads_to_one_folder_are_refused(server, tmp_path, console):
    (tmp_path / "food.partial").mkdir()
    with FileLock(tmp_path / "food.partial" / "lock"), pytest.raises(Conflict, match="Another process is downloading"):
        _get(tmp_path / "food", console)
    assert _get(tmp_path / "food", console)


def test_an_archive_that_cannot_be_unpacked_is_downloaded_again(server, archive, tmp_path, console, monkeypatch):
    monkeypatch.setattr(datasets, "FOOD_101", server.remote())
    work = tmp_path / "food.partial"
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "unpack_tar", _broken)
        with pytest.raises(Corrupt, match="cannot be unpacked"):
            datasets.download_food_101(tmp_path / "food", console, pause=0)
    assert not (work / "food-101.tar.gz").exists()
    assert datasets.download_food_101(tmp_path / "food", console, pause=0)


def _broken(archive, *rest, **options):
    raise Corrupt(f"{archive.name} cannot be unpacked.")


def test_what_is_not_an_archive_or_another_one_is_said(tmp_path, console, monkeypatch):
    other = archive_with((member_of("food-101/readme.txt"), b"something else"))
    for data, message in ((b"<html>" * 100, "cannot be unpacked"), (other, "not food-101 as it is published")):
        with serving(data) as served:
            monkeypatch.setattr(datasets, "FOOD_101", served.remote())
            with pytest.raises(Corrupt, match=message):
                _get(tmp_path / "food", console)
        assert not (tmp_path / "food").exists()
        shutil.rmtree(tmp_path / "food.partial")


def test_a_download_killed_midway_goes_on(server, archive, tmp_path, console):
    def kill() -> None:
        # The client has written what came before it can ask for more.
        while not (tmp_path / "food.partial/food-101.tar.gz.partial").exists():
            assert client.poll() is None
        client.send_signal(signal.SIGKILL)
        client.wait()

    server.replies, server.on_body = [len(archive) // 2], kill
    remote = server.remote()
    client = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.small_download",
            remote.url,
            str(remote.size),
            remote.sha256,
            tmp_path / "food",
        ],
        cwd=ROOT,
        env=environment(),
    )
    client.wait(timeout=60)
    assert client.returncode == -signal.SIGKILL
    assert not (tmp_path / "food").exists()
    server.requests.clear()
    assert _get(tmp_path / "food", console)
    assert len(files_in(tmp_path / "food")) == 12
    assert len(server.requests) == 1


def test_killed_at_every_step_nothing_looks_complete_and_the_next_call_ends_it(server, tmp_path, console, monkeypatch):
    photos = photo_sets.food_101(tmp_path / "photos", train=1, test=0)
    server.data = archive_of(photos)
    monkeypatch.setattr(datasets, "FOOD_101", server.remote())
    template = tmp_path / "template"
    template.mkdir()
    remote = server.remote()
    arguments = (remote.url, str(remote.size), remote.sha256, "{store}/food")
    left = kill_everywhere("tests.support.small_download:main", template, tmp_path / "copies", *arguments)
    assert len(left) > 15
    complete = [(folder / "food").exists() for folder in left]
    assert complete == sorted(complete) and complete[-1] and not complete[0]
    server.requests.clear()
    for folder, whole in zip(left, complete, strict=True):
        assert _get(folder / "food", console) != whole
        assert files_in(folder / "food") == files_in(photos)
    # What was verified before the kill is not downloaded again.
    assert len(server.requests) < complete.count(False)


def test_what_cannot_be_downloaded_is_said(tmp_path, console):
    with pytest.raises(InvalidRequest, match="Expected one of food-101, dog-breed; received 'mnist'"):
        datasets.download("mnist", tmp_path, console)
    with pytest.raises(InvalidRequest, match="Expected --url with food-101 only"):
        datasets.download("dog-breed", tmp_path, console, url="https://example.org")
