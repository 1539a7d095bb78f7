"""What the serving tests share: photos made on the spot, published stores, and a real functions-framework process."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.contract import check
from tests.support.processes import FUNCTIONS

MODEL = "food"


def photo_bytes(
    size: tuple[int, int] = (320, 240), color: tuple[int, int, int] = (200, 30, 30), media: str = "JPEG", **save: Any
) -> bytes:
    """A photo of one colour with a darker left edge, so that a turned photo can be told from an upright one."""
    image = Image.new("RGB", size, color)
    image.paste((20, 20, 20), (0, 0, max(1, size[0] // 16), size[1]))
    file = io.BytesIO()
    image.save(file, media, **save)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 20,000 x 20,000 pixels in a few kilobytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 20_000 // 8) * 1000) for _ in range(20)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def publish(store: Path, bundle: Path, *, promote: bool = True, public: tuple[str, ...] = ()) -> str:
    """Publish a bundle into a folder, and promote it; returns its version. `public` are the files that it shows."""
    registry = Registry(LocalStore(store), MODEL)
    version = registry.publish(bundle, who="tester", replay=golden.replay, public=public).version
    assert version is not None
    if promote:
        registry.promote(version, who="tester", reason="test", replay=golden.replay)
    return version


def damage(store: Path, version: str = "v1") -> Path:
    """Flip one byte in the middle of a published model file, leaving its size as it was."""
    file = store / MODEL / "versions" / version / "model.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    return file


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Serving:
    """A running server."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]
    target: str = "predict"

    def post(self, path: str = "/", **kwargs: Any) -> requests.Response:
        return self.ask("POST", path, **kwargs)

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return self.ask("GET", path, **kwargs)

    def ask(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send a request and hold what `predict` replies against openapi.yaml."""
        reply = requests.request(method, self.url + path, timeout=60, **kwargs)
        if self.target == "predict":
            check(method, urlsplit(path).path or "/", reply.status_code, reply.headers, lambda: reply.content)
        return reply


@contextmanager
def serve(
    store: Path | str,
    folder: Path,
    *,
    functions: Path = FUNCTIONS,
    target: str = "predict",
    signature: str = "http",
    output: int | None = None,
    **env: str,
) -> Iterator[Serving]:
    """Serve with the Functions Framework, from a folder of its own; everything it started has ended afterwards.

    It writes to a file there, or to the descriptor ``output``.
    The result cache and statistics are off unless asked for: tests send the same photo again, and mean the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = (
        "MODEL_", "POINTER_", "PHOTO_", "MAX_", "INTERPRETER", "CORS_", "STATS_", "ACCESS", "STORAGE_EMULATOR",
        "RATE_LIMIT", "TRUSTED_", "FIREBASE_", "FUNCTIONS_EMULATOR", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "K_",
        "FUNCTION_", "UPLOAD_", "RESULT_CACHE_", "REQUEST_", "FEEDBACK_", "ON_DEVICE",
    )  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    settings = {
        "PYTHONUNBUFFERED": "1", "MODEL_STORE": str(store), "MODEL_NAME": MODEL, "RESULT_CACHE_BYTES": "0",
        "STATS_EVERY": "0",
    }  # fmt: skip
    port, log = closed_port(), folder / f"log-{random.getrandbits(32):08x}"
    command = [
        sys.executable, "-m", "functions_framework", "--target", target, "--signature-type", signature,
        "--source", functions / "main.py", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, **settings, **env},
            stdout=file if output is None else output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    serving = Serving(f"http://127.0.0.1:{port}", log, process, target)
    try:
        _wait_until_alive(serving, strictly=target == "predict")
        yield serving
    finally:
        _end_group(process)


def copy_store(store: Path, to: Path) -> Path:
    """Copy a published store, so that a test may change it."""
    shutil.copytree(store, to)
    return to


def _wait_until_alive(serving: Serving, *, strictly: bool) -> None:
    """Wait for an answer: a good one, unless the function does not know the path."""
    until = time.monotonic() + 30
    while True:
        try:
            if requests.get(serving.url + "/healthz", timeout=5).ok or not strictly:
                return
        except requests.ConnectionError:
            pass
        ended = serving.process.poll() is not None
        assert not ended and time.monotonic() < until, f"The server did not start:\n{serving.log.read_text()}"
        time.sleep(0.02)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait(10)
