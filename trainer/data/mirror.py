"""Mirrors a bucket's folder to a local one: what ``--data-dir gs://bucket/folder`` trains on.

    <mirror>/<bucket>/<object's name>       the objects
    <mirror>/<bucket>/.mirror/objects.jsonl which generation each file is of: a line a download, the last one counts
    <mirror>/<bucket>/.mirror/lock          held while a process mirrors
    <mirror>/<bucket>/.mirror/part-*        downloads under way

``<mirror>`` is `DEFAULT_MIRROR` or the environment's `MIRROR_VARIABLE`. One tree a bucket: folders in folders share
their files. A mirrored folder holds exactly what the bucket has; nothing outside it is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, Refused
from classifier.storage.names import bucket_of, check_name
from classifier.storage.opening import open_store
from classifier.storage.protocol import ObjectStore, StoredObject
from trainer.run.locks import locked
from trainer.run.progress import counting

DEFAULT_MIRROR = ".data"
"""Under the working directory."""
MIRROR_VARIABLE = "POINTER_MIRROR"
OWN_FOLDER = ".mirror"
WORKERS = 8
"""Downloads at once; the client keeps ten connections."""
ROOM_LEFT = 100 * 2**20
"""Bytes of the disk that stay free."""


@dataclass(frozen=True)
class Mirrored:
    """What mirroring a folder did."""

    folder: Path
    downloaded: int
    unchanged: int
    removed: int
    """Files that the bucket does not have, or no longer."""


def mirror_root() -> Path:
    """Return the folder of what is copied from elsewhere."""
    return Path(os.environ.get(MIRROR_VARIABLE) or DEFAULT_MIRROR)


def local_data_dir(data_dir: str, console: Console | None = None) -> Path:
    """Return a data folder on this machine: the same one, or the mirror of ``gs://bucket/folder``, brought up to date.

    Raises:
        PointerError: see `mirror`.
    """
    if bucket_of(data_dir) is None:
        return Path(data_dir)
    console = console or Console(stderr=True)
    mirrored = mirror(data_dir, mirror_root(), console)
    if mirrored.downloaded or mirrored.removed:
        console.print(
            f"{data_dir}: {mirrored.downloaded} downloaded, {mirrored.unchanged} unchanged, {mirrored.removed} "
            f"removed in {mirrored.folder}",
            highlight=False,
        )
    return mirrored.folder


def mirror(url: str, root: Path, console: Console) -> Mirrored:
    """Make the local copy of a bucket's folder the same as the bucket's; what is there in its generation is kept.

    A file appears under its name when it is complete and its checksum is right. After an error or a kill, the next
    call goes on with what is missing.

    Args:
        url: ``gs://bucket/folder``.
        root: the folder of all mirrors.
        console: where progress is shown.

    Raises:
        NotFound: there is nothing in that folder of the bucket; the copy stays as it is.
        InvalidRequest: an object's name cannot be a file's.
        InvalidSetting: the URL cannot be used.
        Refused: the local folder has other files, or the disk has not enough room.
        Unavailable: the bucket cannot be reached.
    """
    bucket = bucket_of(url)
    if bucket is None:
        raise InvalidRequest(f"Expected gs://bucket/folder; received {url!r}.")
    store = open_store(url)
    if bucket[1].split("/")[0] == OWN_FOLDER:
        raise InvalidRequest(f"Expected a folder other than {OWN_FOLDER}, which mirrors keep for themselves: {url!r}.")
    objects = _usable(list(store.list()), url)
    if not objects:
        raise NotFound(f"Expected photos in {url}; there are no objects below it.")
    tree = _Tree(root / bucket[0])
    with tree.lock(console):
        return _synchronise(store, objects, tree, bucket[1], console)


def _synchronise(
    store: ObjectStore, objects: list[StoredObject], tree: _Tree, prefix: str, console: Console
) -> Mirrored:
    known = tree.read_journal()
    folder = tree.path / prefix if prefix else tree.path
    names = {item: f"{prefix}/{item.name}" if prefix else item.name for item in objects}
    changed = [item for item in objects if not tree.has(names[item], item.generation, known)]
    tree.make_folder(folder)
    removed = tree.remove_others(folder, set(names.values()))
    tree.require_room(sum(item.size for item in changed))
    for parent in sorted({(tree.path / names[item]).parent for item in changed}):
        tree.make_folder(parent)

    def fetch(item: StoredObject) -> None:
        part = tree.own / f"part-{uuid.uuid4().hex}"
        try:
            with part.open("wb") as file:
                generation = store.download(item.name, file)
            # Not flushed to disk: where a crash of the machine empties a file, its size gives it away the next time.
            part.replace(tree.path / names[item])
        finally:
            part.unlink(missing_ok=True)
        tree.record(names[item], generation)
        step()

    with counting(console, f"mirroring {store.url}", len(changed)) as step, ThreadPoolExecutor(WORKERS) as pool:
        downloads = [pool.submit(fetch, item) for item in changed]
        try:
            for download in downloads:
                download.result()
        finally:
            pool.shutdown(cancel_futures=True)
    tree.compact_journal()
    return Mirrored(folder, len(changed), len(objects) - len(changed), removed)


class _Tree:
    """The local copy of a bucket, with the journal of what its files are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.own = path / OWN_FOLDER
        self.journal = self.own / "objects.jsonl"
        self._writing = threading.Lock()

    @contextmanager
    def lock(self, console: Console) -> Iterator[None]:
        """Wait until no other process mirrors this bucket, then clear what a killed one left.

        Raises:
            Refused: the folder was not made by a mirror.
        """
        if self.path.exists() and not self.own.is_dir() and any(self.path.iterdir()):
            raise Refused(
                f"Expected {self.path} to be a mirror, new or empty; it holds other files. Move them, or set "
                f"{MIRROR_VARIABLE} to another folder for mirrors."
            )
        self.own.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for another process that mirrors to {self.path}"
        with locked(self.own / "lock", on_wait=lambda: console.print(waiting, highlight=False)):
            for part in self.own.glob("part-*"):
                part.unlink()
            yield

    def read_journal(self) -> dict[str, list[int]]:
        """Return generation, bytes and modification time (ns) by name."""
        known = {}
        if self.journal.is_file():
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                try:
                    name, *facts = json.loads(line)
                except ValueError:
                    continue  # cut off by a kill
                known[name] = facts
        return known

    def has(self, name: str, generation: int, known: dict[str, list[int]]) -> bool:
        """Return whether the file is there as it was downloaded, in this generation."""
        try:
            return known.get(name) == [generation, *self._facts(name)]
        except OSError:
            return False

    def record(self, name: str, generation: int) -> None:
        """Note what a downloaded file is of."""
        line = json.dumps([name, generation, *self._facts(name)])
        with self._writing, self.journal.open("a", encoding="utf-8") as file:
            # It begins with the line's end, so that a line that was cut off does not spoil this one.
            file.write(f"\n{line}")

    def compact_journal(self) -> None:
        """Keep a line a file that is still there."""
        known = self.read_journal()
        lines = [json.dumps([name, *facts]) for name, facts in sorted(known.items()) if (self.path / name).exists()]
        part = self.own / "part-objects.jsonl"
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(self.journal)

    def remove_others(self, folder: Path, names: set[str]) -> int:
        """Remove the files of a folder that are not among these names, and folders that become empty."""
        removed = 0
        for base, folders, files in os.walk(folder, topdown=False):
            here = Path(base)
            if self.own in (here, *here.parents):
                continue
            links = [name for name in folders if (here / name).is_symlink()]
            for path in (here / name for name in (*files, *links)):
                if path.is_symlink() or path.relative_to(self.path).as_posix() not in names:
                    path.unlink()
                    removed += 1
            if here != folder and not any(here.iterdir()):
                here.rmdir()
        return removed

    def make_folder(self, folder: Path) -> None:
        """Make a folder in which files are downloaded and removed.

        Raises:
            Refused: a link leads out of the mirror, or a file is in the folder's place.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise Refused(f"Expected a folder at {folder}; a file is in its place or above it. Remove it.") from error
        if not folder.resolve().is_relative_to(self.path.resolve()):
            raise Refused(f"Expected {folder} to be in the mirror; a link leads to {folder.resolve()}. Remove it.")

    def require_room(self, size: int) -> None:
        """Refuse downloads that the disk has no room for.

        Raises:
            Refused: with both sizes.
        """
        free = shutil.disk_usage(self.path).free
        if size and size + ROOM_LEFT > free:
            raise Refused(
                f"Expected {(size + ROOM_LEFT) / 1e9:.1f} GB of free disk for {self.path}; there are "
                f"{free / 1e9:.1f} GB. Free some, or set {MIRROR_VARIABLE} to a folder on another disk."
            )

    def _facts(self, name: str) -> tuple[int, int]:
        stat = (self.path / name).lstat()
        return stat.st_size, stat.st_mtime_ns


def _usable(objects: list[StoredObject], url: str) -> list[StoredObject]:
    """Return the objects that are files, without the placeholders with which consoles make empty folders.

    Raises:
        InvalidRequest: a name cannot be a file's.
    """
    files = [item for item in objects if item.name and not (item.name.endswith("/") and item.size == 0)]
    names = {item.name for item in files}
    for item in files:
        try:
            check_name(item.name)
            if OWN_FOLDER in item.name.split("/"):
                raise InvalidRequest(f"{item.name!r} is in a folder {OWN_FOLDER}, which mirrors keep for themselves.")
            folders = [item.name.rsplit("/", n)[0] for n in range(1, item.name.count("/") + 1)]
            if both := names.intersection(folders):
                raise InvalidRequest(f"{min(both)!r} is an object and the folder of {item.name!r}.")
        except InvalidRequest as error:
            raise InvalidRequest(f"{url} has an object that cannot be a file here: {error} Rename it.") from error
    return files
