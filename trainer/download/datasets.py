"""Gets the official data sets: Food-101's archive over HTTP, Dog Breed's through the Kaggle command line.

What is under way lies in ``<folder>.partial`` beside the folder, which appears in one step when it is complete:

    food-101.tar.gz.partial       the bytes so far, with what If-Range needs in .json beside it
    food-101.tar.gz               verified
    dog-breed-identification.zip  Kaggle's own download, which it resumes itself
    unpacked/                     begun anew by each call
    lock                          held while a process works there
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from classifier.errors import Corrupt, InvalidRequest, NotFound, PointerError, Refused, Unavailable
from trainer.data import layouts
from trainer.download.archive import unpack_tar, unpack_zip
from trainer.download.transfer import RemoteFile, fetch
from trainer.run.locks import locked
from trainer.run.sections import DataConfig

FOOD_101 = RemoteFile(
    "https://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
    4_996_278_331,
    # As TensorFlow Datasets records it for the official archive; its MD5 is 85eeb15f3717b99a5da872d97d918f87.
    "d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
)
COMPETITION = "dog-breed-identification"
DOG_BREED_BYTES = 1_500_000_000
"""Room that Dog Breed takes: its archive of 0.7 GB, and the labelled half of its photos unpacked."""
MOST_UNPACKED = 2.0
"""Bytes that may come out of an archive, relative to its own: photos hardly shrink."""
KAGGLE_HELP = (
    f"accept the competition's rules at https://www.kaggle.com/c/{COMPETITION}/rules, and put a token from "
    "https://www.kaggle.com/settings/api in ~/.kaggle/access_token (`kaggle auth login` does it too)"
)


def download_food_101(folder: Path, console: Console, *, url: str | None = None, pause: float = 1.0) -> bool:
    """Download, verify and unpack Food-101 into `folder`; an interrupted call is gone on with by the next one.

    Args:
        folder: new or empty, or Food-101 already.
        console: where progress is shown.
        url: a mirror of the official archive; its checksum has to be the same.
        pause: see `trainer.download.transfer.fetch`.

    Returns:
        False if it was there already; then nothing is asked of the network.

    Raises:
        Refused: the folder holds other files or an incomplete data set, or the disk has not enough room.
        Conflict: another process is downloading to it.
        PointerError: see `trainer.download.transfer.fetch` and `trainer.download.archive.unpack_tar`.
    """
    remote = replace(FOOD_101, url=url or FOOD_101.url)

    def unpacked(work: Path) -> Path:
        archive = work / "food-101.tar.gz"
        partial = archive.with_name(f"{archive.name}.partial")
        have = sum(path.stat().st_size for path in (archive, partial) if path.exists())
        _require_room(work, 2 * remote.size - have)
        fetch(remote, archive, console, pause=pause)
        try:
            unpack_tar(archive, work / "unpacked", console, max_bytes=int(MOST_UNPACKED * remote.size))
        except Corrupt:
            # It was right when it came: what the disk has made of it is of no use to the next call.
            archive.unlink()
            raise
        return work / "unpacked" / "food-101"

    return _get("food-101", folder, unpacked)


def download_dog_breed(folder: Path, console: Console) -> bool:
    """Download the photos of Kaggle's Dog Breed Identification that have labels, with the user's `kaggle` command.

    See `download_food_101` for what it returns and raises.

    Raises:
        NotFound: there is no `kaggle` on PATH.
        Unavailable: it fails.
    """
    if _is_there("dog-breed", folder):
        return False
    program = shutil.which("kaggle")
    if program is None:
        raise NotFound(
            "Expected the Kaggle command line on PATH; there is no `kaggle`. Install it (pip install kaggle), "
            f"{KAGGLE_HELP}. Or download the archive there and unpack labels.csv and train/ into {folder}."
        )

    def unpacked(work: Path) -> Path:
        _require_room(work, DOG_BREED_BYTES)
        # What it says and shows goes to the terminal as it is.
        command = [program, "competitions", "download", "-c", COMPETITION, "-p", str(work)]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        archive = work / f"{COMPETITION}.zip"
        if code or not archive.is_file():
            what = f"ended with exit code {code}" if code else f"left no {archive.name}"
            raise Unavailable(
                f"`kaggle competitions download` {what}; what it said is above. You have to {KAGGLE_HELP}."
            )
        try:
            unpack_zip(
                archive, work / "unpacked", console, max_bytes=DOG_BREED_BYTES,
                wanted=lambda name: name == "labels.csv" or name.startswith("train/"),
            )  # fmt: skip
        except Corrupt:
            archive.unlink()
            raise
        return work / "unpacked"

    return _get("dog-breed", folder, unpacked)


DOWNLOADS: dict[str, Callable[..., bool]] = {"food-101": download_food_101, "dog-breed": download_dog_breed}


def download(dataset: str, folder: Path, console: Console, *, url: str | None = None) -> bool:
    """Download a data set by its name; return whether it was not there already.

    Raises:
        InvalidRequest: it is not one of `DOWNLOADS`, or takes no address.
        PointerError: see `download_food_101` and `download_dog_breed`.
    """
    if dataset not in DOWNLOADS:
        raise InvalidRequest(f"Expected one of {', '.join(DOWNLOADS)}; received {dataset!r}.")
    if url is not None and dataset != "food-101":
        raise InvalidRequest(f"Expected --url with food-101 only: {dataset} comes through Kaggle's command line.")
    return DOWNLOADS[dataset](folder, console, **({"url": url} if url is not None else {}))


def _get(dataset: str, folder: Path, make: Callable[[Path], Path]) -> bool:
    """Have `make` prepare the data set in the work folder and put it in its place, unless it is there."""
    if _is_there(dataset, folder):
        return False
    folder = folder.resolve()  # a link may lead to another disk; "." has no name of its own
    work = folder.with_name(f"{folder.name}.partial")
    with _only_here(work):
        if _is_there(dataset, folder):
            return False
        shutil.rmtree(work / "unpacked", ignore_errors=True)
        made = make(work)
        missing = _missing_photos(dataset, made)
        if missing:
            raise Corrupt(f"The archive is not {dataset} as it is published: {missing}.")
        made.replace(folder)
    shutil.rmtree(work, ignore_errors=True)
    return True


def _is_there(dataset: str, folder: Path) -> bool:
    """Return whether the folder has the data set with every photo in its tables; False where it is new or empty.

    Raises:
        Refused: it holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    missing = _missing_photos(dataset, folder)
    if missing:
        raise Refused(
            f"Expected a new or empty folder, or a complete {dataset}; {folder} holds other files: {missing}. "
            "Give another folder, or remove it."
        )
    return True


def _missing_photos(dataset: str, folder: Path) -> str:
    """Return what keeps a folder from being a data set; empty if nothing does."""
    load = {"food-101": layouts.food_101, "dog-breed": layouts.dog_breed}[dataset]
    try:
        paths = load(DataConfig(dataset, str(folder))).frame["image_path"]
    except (PointerError, NotADirectoryError) as error:
        return str(error).rstrip(".")
    missing = [path for path in paths if not (folder / path).is_file()]
    return f"{len(missing)} of {len(paths)} photos are missing, such as {missing[0]}" if missing else ""


@contextmanager
def _only_here(work: Path) -> Iterator[None]:
    """Make the work folder and keep other processes out of it.

    Raises:
        Conflict: one is at work there.
    """
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / "lock", busy=f"Another process is downloading to {work}. Wait until it ends."):
        yield


def _require_room(work: Path, size: int) -> None:
    free = shutil.disk_usage(work).free
    if size > free:
        raise Refused(
            f"Expected {size / 1e9:.1f} GB of free disk for the archive and its photos; {work.parent} has "
            f"{free / 1e9:.1f} GB. Free some, or give a folder on another disk."
        )
