"""Unpacks archives that came over the network: plain files only, inside the folder, within a limit of bytes."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from rich.console import Console

from classifier.errors import Corrupt
from trainer.download.transfer import transferring

MAX_FILES = 500_000


def unpack_tar(archive: Path, folder: Path, console: Console, *, max_bytes: int) -> None:
    """Unpack a .tar.gz archive into a folder.

    Every member is checked before it is written, and again by `tarfile`'s own data filter (PEP 706).

    Args:
        archive: the file.
        folder: where to; it is made.
        console: where progress is shown.
        max_bytes: most bytes that all its files may have together.

    Raises:
        Corrupt: it is damaged, or has a member other than a plain file or folder inside `folder`, or too many bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    budget = _Budget(archive, max_bytes)
    try:
        with (
            archive.open("rb") as file,
            transferring(console, "unpacking", archive.stat().st_size) as show,
            tarfile.open(fileobj=file, mode="r:gz") as members,
        ):
            for member in members:
                if not (member.isfile() or member.isdir()) or member.issparse():
                    raise Corrupt(f"{archive.name} has {member.name!r}, which is no plain file or folder.")
                budget.take(member.name, member.size)
                members.extract(member, folder, filter="data")
                show(file.tell())
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Corrupt(f"{archive.name} cannot be unpacked: {' '.join(str(error).split())}.") from error


def unpack_zip(
    archive: Path, folder: Path, console: Console, *, max_bytes: int, wanted: Callable[[str], bool] = lambda name: True
) -> None:
    """Unpack the wanted files of a zip archive into a folder; each one's CRC is verified.

    Args:
        archive: the file.
        folder: where to; it is made.
        console: where progress is shown.
        max_bytes: most bytes that the wanted files may have together.
        wanted: takes a member's name.

    Raises:
        Corrupt: see `unpack_tar`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    budget = _Budget(archive, max_bytes)
    try:
        with zipfile.ZipFile(archive) as members:
            chosen = [member for member in members.infolist() if not member.is_dir() and wanted(member.filename)]
            for member in chosen:
                if (member.external_attr >> 28) not in (0, 0o10):
                    raise Corrupt(f"{archive.name} has {member.filename!r}, which is no plain file.")
                budget.take(member.filename, member.file_size)
            with transferring(console, "unpacking", budget.taken) as show:
                done = 0
                for member in chosen:
                    path = folder / member.filename
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with members.open(member) as source, path.open("wb") as target:
                        _copy(source, target)
                    done += member.file_size
                    show(done)
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise Corrupt(f"{archive.name} cannot be unpacked: {' '.join(str(error).split())}.") from error


class _Budget:
    """Checks the names and adds up the sizes of an archive's members."""

    def __init__(self, archive: Path, max_bytes: int) -> None:
        self.archive, self.max_bytes = archive, max_bytes
        self.taken = self.files = 0

    def take(self, name: str, size: int) -> None:
        """Count a member.

        Raises:
            Corrupt: its name leads out of the folder, or the limits are reached.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or {"\\", "\0", ":"} & set(name):
            raise Corrupt(f"{self.archive.name} has {name!r}, which leads out of its folder.")
        self.taken += size
        self.files += 1
        if self.taken > self.max_bytes or self.files > MAX_FILES:
            raise Corrupt(
                f"Expected at most {self.max_bytes} bytes and {MAX_FILES} files in {self.archive.name}; it has more."
            )


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    # A member's reader stops at the size that its header states, and raises where its CRC is another one.
    shutil.copyfileobj(source, target)
