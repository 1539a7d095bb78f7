"""An emulator with buckets of photos, one whose requesters pay, and one for labels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from tests.support.processes import SUPPORT

PHOTOS, PAYS, LABELS = "photos", "photos-pays", "labels"


@contextmanager
def photo_buckets() -> Iterator[str]:
    """Start it, and lend its address."""
    with subprocess.Popen(
        [sys.executable, SUPPORT / "gcs_emulator.py", PHOTOS, PAYS, LABELS],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def put(emulator: str, bucket: str, name: str, content: bytes) -> None:
    """Write an object under any name; an upload in parts, because the emulator takes no empty one otherwise."""
    facts = json.dumps({"name": name, "contentType": "application/octet-stream"}).encode()
    body = (
        b"--part\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n" + facts + b"\r\n--part\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--part--\r\n"
    )  # fmt: skip
    reply = requests.post(
        f"{emulator}/upload/storage/v1/b/{bucket}/o?uploadType=multipart",
        data=body,
        headers={"Content-Type": "multipart/related; boundary=part"},
        timeout=10,
    )
    assert reply.ok, reply.text
