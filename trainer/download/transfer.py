"""Transfers one large file over HTTP: resumed where it was cut off, verified before it has its name."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from classifier.errors import Corrupt, InvalidSetting, NotFound, Unavailable
from trainer.run.files import write_json

CHUNK = 1 << 16
"""Bytes; what a connection that drops may cost."""
TIMEOUT = 30.0
"""Seconds for a connection, and for each part of an answer."""
ATTEMPTS = 6
"""In a row without a single new byte."""
LONGEST_PAUSE = 60.0
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses after which the same request may succeed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its publisher describes it."""

    url: str
    size: int
    """Bytes."""
    sha256: str


def fetch(remote: RemoteFile, path: Path, console: Console, *, pause: float = 1.0) -> None:
    """Download a file to `path`, or go on with ``<path>.partial`` that an earlier call left.

    The server is asked for the missing part only if the file is still the same (RFC 9110: Range with If-Range); where
    it answers with the whole file, that is taken from its beginning. Dropped connections and passing errors are tried
    again, with growing pauses, as long as there is progress.

    Args:
        remote: what to expect.
        path: where to; there already, it is believed.
        console: where progress is shown.
        pause: seconds before the first repetition; the next ones take twice as long each.

    Raises:
        InvalidSetting: it is not an address.
        NotFound: there is no such file at the URL.
        Unavailable: the server cannot be reached or does not deliver.
        Corrupt: it is not the file that was expected; nothing of it is kept.
    """
    if path.is_file():
        return
    partial = path.with_name(f"{path.name}.partial")
    resumed = partial.is_file()
    while True:
        _transfer(remote, partial, console, pause)
        found = _sha256(partial, console)
        if found == remote.sha256:
            break
        partial.unlink()
        if not resumed:
            raise Corrupt(
                f"Expected sha256 {remote.sha256} of {remote.url}; received {found}. It was removed: the file was "
                "damaged on its way, or the URL has another one."
            )
        resumed = False  # Its beginning may have been another file's: once more, from the beginning.
    partial.replace(path)
    _validator_file(partial).unlink(missing_ok=True)


@contextmanager
def transferring(console: Console, what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar of bytes while the block runs; yields the function that sets how many are done."""
    with Progress(
        TextColumn(what), BarColumn(bar_width=16), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(compact=True), console=console, transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task(what, total=total, completed=done)
        yield lambda done: progress.update(task, completed=done)


class _PassingError(Exception):
    """Worth another attempt, after `pause` seconds if the server named them."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def _transfer(remote: RemoteFile, partial: Path, console: Console, pause: float) -> None:
    """Fill `partial` until it has all its bytes."""
    failures = 0
    with transferring(console, "downloading", remote.size, _size(partial)) as show:
        while (before := _size(partial)) != remote.size:
            if before > remote.size:
                partial.unlink()
                continue
            try:
                _attempt(remote, partial, show)
            except _PassingError as error:
                failures = 0 if _size(partial) > before else failures + 1
                if failures >= ATTEMPTS:
                    raise Unavailable(
                        f"{remote.url} cannot be downloaded: {error}, {ATTEMPTS} times in a row. "
                        f"{_size(partial)} of {remote.size} bytes are kept; the same command goes on from there."
                    ) from error
                wait = min(pause * 2 ** max(failures - 1, 0) if error.pause is None else error.pause, LONGEST_PAUSE)
                console.print(f"{error}; trying again in {wait:.0f} s", highlight=False, markup=False)
                time.sleep(wait)


def _attempt(remote: RemoteFile, partial: Path, show: Callable[[int], None]) -> None:
    """Send one request and append what comes.

    Raises:
        _PassingError: it did not all come.
    """
    import requests
    import urllib3
    from requests import exceptions

    start = _size(partial)
    # What is compressed already must not be decompressed on the way.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator := _read_validator(partial):
            headers["If-Range"] = validator
    try:
        with requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            goes_on = _check(remote, partial, answer, start)
            with partial.open("ab" if goes_on else "wb") as file:
                if not goes_on:
                    write_json(_validator_file(partial), _validator(answer.headers))
                done = start if goes_on else 0
                for chunk in answer.raw.stream(CHUNK, decode_content=False):
                    if done + len(chunk) > remote.size:
                        partial.unlink()
                        raise Corrupt(f"Expected {remote.size} bytes at {remote.url}; received more.")
                    file.write(chunk)
                    done += len(chunk)
                    show(done)
        if done < remote.size:
            raise _PassingError("the connection was closed early")
    except (exceptions.InvalidURL, exceptions.InvalidSchema, exceptions.MissingSchema) as error:
        raise InvalidSetting(f"Expected https://... or http://... with --url; received {remote.url!r}.") from error
    except (exceptions.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
        raise _PassingError(_reason(error)) from error


def _check(remote: RemoteFile, partial: Path, answer: Any, start: int) -> bool:
    """Return whether the answer goes on at `start`; False: it is the whole file.

    Raises:
        _PassingError: another attempt may succeed.
        NotFound, Corrupt: it will not.
    """
    status = answer.status_code
    if status in PASSING:
        wait = answer.headers.get("Retry-After", "")
        raise _PassingError(f"the server answered {status}", float(wait) if wait.isdigit() else None)
    if status == 416:
        partial.unlink(missing_ok=True)
        raise _PassingError("the server has less than was downloaded")
    if status not in (200, 206):
        raise NotFound(
            f"Expected a file at {remote.url}; the server answered {status}. Give another address with --url."
        )
    if status == 206:
        unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
        span, _, total = rest.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(start):
            partial.unlink(missing_ok=True)
            raise _PassingError("the server sent another part than it was asked for")
        size = int(total) if total.isdigit() else remote.size
    else:
        length = answer.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() else remote.size
    if size != remote.size:
        raise Corrupt(
            f"Expected a file of {remote.size} bytes at {remote.url}; the server has one of {size}. "
            "Give another address with --url."
        )
    return bool(status == 206)


def _validator(headers: Any) -> str | None:
    """Return what If-Range may name: a strong ETag, else the date."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    date = headers.get("Last-Modified")
    return str(date) if date else None


def _validator_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _read_validator(partial: Path) -> str | None:
    try:
        found = json.loads(_validator_file(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _sha256(path: Path, console: Console) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file, transferring(console, "verifying", path.stat().st_size) as show:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            done += len(chunk)
            show(done)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """One clause, without the library's wrappers."""
    cause: object = error
    while isinstance(cause, Exception) and cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    cause = getattr(cause, "reason", None) or cause
    text = re.sub(r"HTTPS?Connection(Pool)?\([^)]*\): ", "", " ".join(str(cause).split()))
    return text.rstrip(".")[:200] or type(error).__name__
