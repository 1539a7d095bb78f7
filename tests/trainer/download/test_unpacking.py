"""Unpacking archives: nothing outside the folder, no more than was declared, damage told as such."""

from __future__ import annotations

import stat
import tarfile
import zipfile

import pytest

from classifier.errors import Corrupt
from tests.support import photo_sets
from tests.support.download_server import archive_of, archive_with, files_in, member_of
from trainer.download.archive import unpack_tar, unpack_zip


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (member_of("../outside"), "leads out of its folder"),
        (member_of("food-101/../../outside"), "leads out of its folder"),
        (member_of("/outside"), "leads out of its folder"),
        (member_of("..\\outside"), "leads out of its folder"),
        (member_of("food-101/link", tarfile.SYMTYPE, "/etc"), "no plain file or folder"),
        (member_of("food-101/link", tarfile.LNKTYPE, "../outside"), "no plain file or folder"),
        (member_of("food-101/pipe", tarfile.FIFOTYPE), "no plain file or folder"),
        (member_of("food-101/disk", tarfile.BLKTYPE), "no plain file or folder"),
    ],
)
def test_an_archive_cannot_write_outside_its_folder(member, message, tmp_path, console):
    (tmp_path / "evil.tar.gz").write_bytes(archive_with((member_of("good.txt"), b"good"), (member, b"evil")))
    with pytest.raises(Corrupt, match=message):
        unpack_tar(tmp_path / "evil.tar.gz", tmp_path / "in" / "side", console, max_bytes=1000)
    assert files_in(tmp_path) == {"evil.tar.gz", "in/side/good.txt"}


def test_an_archive_cannot_fill_the_disk(tmp_path, console):
    bomb = archive_with(*((member_of(f"{number}"), bytes(400_000)) for number in range(3)))
    assert len(bomb) < 3000
    (tmp_path / "bomb.tar.gz").write_bytes(bomb)
    with pytest.raises(Corrupt, match="Expected at most 1000000 bytes"):
        unpack_tar(tmp_path / "bomb.tar.gz", tmp_path / "in", console, max_bytes=1_000_000)
    assert files_in(tmp_path / "in") == {"0", "1"}


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_damaged(keep, tmp_path, console):
    archive = archive_of(photo_sets.food_101(tmp_path / "photos", train=1, test=0))
    (tmp_path / "cut.tar.gz").write_bytes(archive[: int(len(archive) * keep)])
    with pytest.raises(Corrupt, match=r"cut\.tar\.gz cannot be unpacked: "):
        unpack_tar(tmp_path / "cut.tar.gz", tmp_path / "in", console, max_bytes=10**9)


@pytest.mark.parametrize("name", ["../outside", "/outside", "train/../../outside", "train\\..\\outside"])
def test_a_zip_archive_cannot_write_outside_its_folder(name, tmp_path, console):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, "evil")
    with pytest.raises(Corrupt, match="leads out of its folder"):
        unpack_zip(tmp_path / "evil.zip", tmp_path / "in" / "side", console, max_bytes=1000)
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(Corrupt, match="no plain file"):
        unpack_zip(tmp_path / "evil.zip", tmp_path / "in" / "side", console, max_bytes=1000)
    assert files_in(tmp_path) == {"evil.zip"}
