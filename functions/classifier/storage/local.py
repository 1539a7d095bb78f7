"""A store in a folder, with the promises of a bucket: generations, atomic writes, compare-and-swap under a lock."""

from __future__ import annotations

import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from classifier.errors import NotFound, PreconditionFailed, Unavailable
from classifier.storage.names import LOCK_FILE, TEMPORARY_FOLDER, check_name, check_prefix
from classifier.storage.protocol import MUST_NOT_EXIST, Content, StoredObject, open_source

CHUNK = 1 << 20
LOCK_TIMEOUT = 30.0
STALE_AFTER = 24 * 3600.0


class LocalStore:
    """Objects as files under a folder, with the promises of a bucket: atomic, conditional and durable writes.

    A generation is the file's modification time in nanoseconds, forced to grow. A write prepares a temporary
    file and takes a lock only to compare, stamp and rename it; reading never locks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    def read(self, name: str) -> Content:
        """See `ObjectStore.read`."""
        with self._opened(name) as (file, generation):
            return Content(file.read(), generation)

    def read_if_changed(self, name: str, generation: int) -> Content | None:
        """See `ObjectStore.read_if_changed`."""
        with self._opened(name) as (file, found):
            return None if found == generation else Content(file.read(), found)

    def write(
        self, name: str, data: bytes | Path, *, if_generation: int | None = None, content_type: str | None = None
    ) -> int:
        """See `ObjectStore.write`; the content type is not kept."""
        check_name(name)
        target = self.folder / name
        with self._reaching():
            self._make_folder(self.folder / TEMPORARY_FOLDER)
            self._remove_stale_files()
        temporary = self.folder / TEMPORARY_FOLDER / uuid.uuid4().hex
        try:
            self._fill(temporary, data)
            with self._reaching():
                self._make_folder(target.parent)
                with self._locked():
                    current = _generation(target)
                    if if_generation is not None and if_generation != current:
                        raise PreconditionFailed(
                            f"Expected {name} in {self.url} to have generation {if_generation}; it has {current}."
                        )
                    generation = _stamp(temporary, current)
                    temporary.replace(target)
                _sync(target.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        return generation

    def delete(self, name: str) -> None:
        """See `ObjectStore.delete`. Folders that become empty stay: another writer may be about to use them."""
        check_name(name)
        target = self.folder / name
        with self._reaching():
            self._expect_folder()
            if not target.is_file():
                return
            with self._locked():
                target.unlink(missing_ok=True)
                _sync(target.parent)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See `ObjectStore.list`."""
        check_prefix(prefix)
        found = []
        with self._reaching():
            self._expect_folder()
            for path in self._files(self.folder / prefix.rpartition("/")[0]):
                name = path.relative_to(self.folder).as_posix()
                if name.startswith(prefix):
                    # A file that somebody removed since the walk is not there.
                    with suppress(FileNotFoundError):
                        status = path.stat()
                        found.append(StoredObject(name, status.st_size, _generation_of(status)))
        return iter(sorted(found, key=lambda item: item.name))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """See `ObjectStore.folders`."""
        check_prefix(prefix)
        with self._reaching():
            self._expect_folder()
            if not self.folder.is_dir():
                raise NotFound(f"There is no store at {self.url}: the folder does not exist.")
            try:
                with os.scandir(self.folder / prefix) as entries:
                    found = [entry.name for entry in entries if entry.is_dir()]
            except (FileNotFoundError, NotADirectoryError):
                found = []
        return iter(sorted(name for name in found if prefix or name != TEMPORARY_FOLDER))

    def download(self, name: str, file: BinaryIO) -> int:
        """See `ObjectStore.download`."""
        with self._opened(name) as (source, generation):
            shutil.copyfileobj(source, file, CHUNK)
            return generation

    def _files(self, start: Path) -> Iterator[Path]:
        """Yield the files below a folder, without the store's own."""

        def fail(error: OSError) -> None:
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                raise error

        for parent, folders, files in os.walk(start, onerror=fail):
            if Path(parent) == self.folder:
                folders[:] = [folder for folder in folders if folder != TEMPORARY_FOLDER]
                files = [file for file in files if file != LOCK_FILE]
            yield from (Path(parent, file) for file in files)

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
        """Open an object. A file is replaced, never changed: what the descriptor shows belongs together."""
        check_name(name)
        with self._reaching():
            try:
                file = (self.folder / name).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                self._expect_folder()
                raise NotFound(f"Expected an object {name!r} in {self.url}; there is none.") from error
            with file:
                yield file, _generation_of(os.fstat(file.fileno()))

    def _fill(self, temporary: Path, data: bytes | Path) -> None:
        """Write the data to a new file and wait until the disk has it."""
        if isinstance(data, bytes):
            with self._reaching(), _create(temporary) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        else:
            with open_source(data) as source, self._reaching(), _create(temporary) as file:
                shutil.copyfileobj(source, file, CHUNK)
                file.flush()
                os.fsync(file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock; the system frees it when the process ends, however it ends."""
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.folder / LOCK_FILE, timeout=LOCK_TIMEOUT, poll_interval=0.005):
                yield
        except Timeout as error:
            raise Unavailable(
                f"The store {self.url} has been locked by another process for {LOCK_TIMEOUT:.0f} seconds. "
                "Find out which one is stuck in a write, end it, and try again."
            ) from error

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what the file system reports into `Unavailable`."""
        try:
            yield
        except OSError as error:
            raise Unavailable(
                f"The store {self.url} cannot be used: {error.strerror or error}. "
                "Check that it is a folder, its permissions and the free space on its disk."
            ) from error

    def _expect_folder(self) -> None:
        """A store that was never written to does not exist, which is fine; one that is a file is a mistake."""
        try:
            is_folder = stat.S_ISDIR(self.folder.stat().st_mode)  # asked once: a rival may be making it
        except FileNotFoundError:
            is_folder = not self.folder.is_symlink()
        if not is_folder:
            raise NotADirectoryError(f"{self.folder} is not a folder")

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and its parents so that a power cut does not lose them."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            _sync(each.parent)

    def _remove_stale_files(self) -> None:
        """Remove the temporary files of writers that were killed more than a day ago."""
        oldest = time.time() - STALE_AFTER
        for path in (self.folder / TEMPORARY_FOLDER).iterdir():
            # Another writer may be removing the same file.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _create(path: Path) -> BinaryIO:
    """Open a new file for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")


def _generation(path: Path) -> int:
    try:
        return _generation_of(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return MUST_NOT_EXIST


def _generation_of(status: os.stat_result) -> int:
    """An image build may set every modification time to 0, which is not "does not exist"."""
    return max(status.st_mtime_ns, MUST_NOT_EXIST + 1)


def _stamp(path: Path, current: int) -> int:
    """Give a file a modification time after `current`, also where the file system rounds it; return it."""
    wanted, step = max(time.time_ns(), current + 1), 1
    while True:
        os.utime(path, ns=(wanted, wanted))
        generation = _generation_of(path.stat())
        if generation > current:
            break
        wanted, step = wanted + step, step * 10
    _sync(path)
    return generation


def _sync(path: Path) -> None:
    """Wait until a file's or folder's entry is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
