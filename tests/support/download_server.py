"""A server of one file for the tests of downloads: ranges, dropped connections, errors; and tiny archives to serve."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from trainer.download.transfer import RemoteFile


@dataclass
class Served:
    """A file on a loopback server. `replies` are taken first, one a request; then it is served as it should be."""

    data: bytes
    url: str = ""
    etag: str | None = '"first"'
    ranges: bool = True
    replies: list[Any] = field(default_factory=list)
    """A status, or how many bytes of the body are sent before the connection is dropped."""
    requests: list[dict[str, str]] = field(default_factory=list)
    on_body: Callable[[], None] | None = None
    """Called behind the bytes of a connection that is dropped."""

    @property
    def asked(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("Range") for headers in self.requests]

    def remote(self) -> RemoteFile:
        """What its publisher says of it."""
        return RemoteFile(self.url, len(self.data), hashlib.sha256(self.data).hexdigest())


@contextmanager
def serving(data: bytes) -> Iterator[Served]:
    """Serve a file at its `url`."""
    served = Served(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(dict(self.headers))
            reply = served.replies.pop(0) if served.replies else None
            if isinstance(reply, Exception):
                raise reply
            if reply is not None and 100 < reply < 600:
                self.send_response(reply)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            wanted, body = self.headers.get("Range"), served.data
            same = self.headers.get("If-Range") in (None, served.etag)
            if wanted and served.ranges and same:
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                body = body[start:]
            else:
                self.send_response(200)
            if served.etag:
                self.send_header("ETag", served.etag)
            self.send_header("Content-Encoding", "x-gzip")  # what Apache says of .tar.gz
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if reply is None:
                self.wfile.write(body)
                return
            self.wfile.write(body[:reply])
            self.wfile.flush()
            if served.on_body:
                served.on_body()
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_address[1]}/food-101.tar.gz"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def archive_of(folder: Path, name: str = "food-101") -> bytes:
    """A .tar.gz of a folder under a name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as members:
        members.add(folder, name)
    return file.getvalue()


def archive_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A .tar.gz with these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def member_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a member of an archive, of any kind."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def files_in(folder: Path) -> set[str]:
    """Return the paths of the files in a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
