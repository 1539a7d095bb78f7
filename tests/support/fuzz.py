"""Sends mutated photos and requests to a real server as long as one likes: python -m tests.support.fuzz --minutes 5.

It prints what came back and ends with 1 after a reply that should not be, having kept what caused it in --keep.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import requests

from tests.support.bundles import build_tiny_bundle
from tests.support.mutations import mutated, photos
from tests.support.serving import Serving, publish, serve

MEMORY = 48 * 2**20
"""What the server may take to decode photos, in bytes."""
ALLOWED_GROWTH = MEMORY + 40 * 2**20
"""Beside what decoding takes, there are bodies, copies of them, and what allocators keep."""
SETTINGS = {"MAX_IMAGE_MEMORY": str(MEMORY), "MAX_IMAGE_BYTES": str(4 * 2**20)}
TIME_LIMIT = 60
"""Seconds of one request: those of the function."""

TEXTS = (
    "", "0", "1", "true", "-1", "1e9", "99999999999", "red", "label:1", "label:", "\0", "é", "💥", "%", "%00", "../..",
    "a" * 5000, "[]", "{}", "null", "jpeg", "png", "heatmap", "1,2", "'; --", "<script>", "\ud800",
)  # fmt: skip
PARAMETERS = ("top_k", "gradcam", "gradcam_format", "gradcam_size", "tta", "image", "x", "", "topk")
TYPES = (
    "image/jpeg", "image/heic", "image/*", "image/", "application/octet-stream", "application/json", "text/plain",
    "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x", "multipart/mixed",
    "application/json; charset=utf-16", "application/x-www-form-urlencoded", "", "nonsense", "image/jpeg; a=b; a=c",
)  # fmt: skip
ACCEPTS = (
    "*/*", "image/*", "image/png", "application/json", "text/html", "", ";q=", "*/*;q=0", "image/jpeg;q=nan",
    "a/b, */*;q=0.1",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One request."""

    body: bytes
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    path: str = "/"


@dataclass
class Watch:
    """A server under fuzzing: what it answered, and how much memory it has taken at most."""

    serving: Serving
    statuses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for photo in photos().values():  # so that all libraries and the model are loaded
            self.serving.post(data=photo, headers={"Content-Type": "image/jpeg"}, params={"gradcam": "1"})
        self.before = memory_of(self.serving)

    def send(self, case: Case) -> None:
        """Send a request; AssertionError where the reply, its time or the memory is not as it must be."""
        headers = {"Content-Type": "image/jpeg", **case.headers}
        request = requests.Request(
            case.method, self.serving.url + case.path, headers, params=case.query, data=case.body
        )
        with requests.Session() as session:
            reply = session.send(session.prepare_request(request), timeout=TIME_LIMIT, allow_redirects=False)
        self.statuses[reply.status_code] += 1
        assert reply.status_code < 500, f"{reply.status_code}: {reply.text}"
        # Gunicorn itself refuses broken or large headers, in HTML; such a request never reaches the function.
        by_gunicorn = reply.status_code in (400, 431) and reply.text.startswith("<html>")
        if reply.status_code >= 400 and case.method != "HEAD" and not by_gunicorn:
            problem = reply.json()
            assert problem["status"] == reply.status_code and problem["detail"], reply.text
            assert "Traceback" not in reply.text
        self.check_memory()

    def check_memory(self) -> None:
        peak = memory_of(self.serving)
        assert peak - self.before < ALLOWED_GROWTH, f"it took {(peak - self.before) / 2**20:.0f} MiB"


def memory_of(serving: Serving) -> int:
    """The largest number of bytes that any of the server's processes has had in memory."""
    group = serving.process.pid
    peaks = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if status.with_name("stat").read_text().rpartition(")")[2].split()[2] == str(group):
                peaks.append(int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024)  # type: ignore[index]
        except (OSError, TypeError):  # it has ended
            continue
    return max(peaks)


def photo_case(random: Random) -> Case:
    """A photo that was changed at random, now and then with an overlay."""
    known = list(photos().values())
    return Case(mutated(random.choice(known), known, random), random.choice(((), (), (("gradcam", "1"),))))


def request_case(random: Random) -> Case:
    """A request in which nothing needs to be as it should."""
    photo = photo_case(random).body if random.random() < 0.3 else photos()["JPEG"]
    text = base64.b64encode(photo).decode()
    form = (
        b"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n"
        b"Content-Type: image/jpeg\r\n\r\n" + photo + b"\r\n--x--\r\n"
    )  # fmt: skip
    bare = form.replace(b'; filename="a"', random.choice((b"", b'; filename=""', b'; filename="\x95\\"')))
    beside = b'--x\r\nContent-Disposition: form-data; name="gradcam"\r\n\r\n1\r\n' + bare
    zipped = gzip.compress(random.choice((form, photo, bytes(9_000_000))), 1)
    documents: list[Any] = [
        {"image": text}, {"image": 1}, {"image": None}, {"object": random.choice(TEXTS)}, {}, [], text, 1e400,
        {"image": text, "object": "a"}, {"image": {"image": text}}, {"image": text[:-1]}, {"images": [text]},
        {"image": "data:image/png;base64," + text}, {"image": text.replace("A", "\n-_ "[random.randrange(4)])},
        {"image": text, "gradcam": random.choice((1, "RED ", 1.5)), "top_k": random.choice((3.0, 1e300, "3", None))},
    ]  # fmt: skip
    document = json.dumps(random.choice(documents)).encode()
    nested = b"[" * 100_000
    body, kind = random.choice((
        (form, "multipart/form-data; boundary=x"), (form * 3, "multipart/form-data; boundary=x"),
        (document, "application/json"), (nested, "application/json"), (photo, "image/jpeg"), (b"", ""),
        (random.randbytes(random.randrange(300)), random.choice(TYPES)), (form, random.choice(TYPES)),
        (document, random.choice(TYPES)), (bare, "multipart/form-data; boundary=x"),
        (beside, "multipart/form-data; boundary=x"), (zipped, "multipart/form-data; boundary=x"), (zipped, ""),
    ))  # fmt: skip
    if random.random() < 0.4:
        body = mutated(body, [photo, form, document], random) if body else body
    headers = {"Content-Type": kind}
    if body[:2] == b"\x1f\x8b":
        headers["Content-Encoding"] = "gzip"
    for name, values in (
        ("Accept", ACCEPTS), ("Origin", ("null", "http://a", "\x7f")),
        ("Content-Encoding", ("identity", "gzip", "", "br")),
        ("traceparent", ("00-" + "0" * 32, "x" * 9000)), ("X-Forwarded-For", ("1.1.1.1", "::,,,", "a" * 4000)),
        ("Authorization", ("Bearer x", "Basic", "Bearer " + "." * 99)), ("Range", ("bytes=0-", "bytes=-", "x")),
        ("If-None-Match", ("*", '"', "W/")), ("X-Cloud-Trace-Context", ("a/b;o=c", "/")),
    ):  # fmt: skip
        if random.random() < 0.15:
            headers[name] = random.choice(values)
    query = tuple(
        (random.choice(PARAMETERS), _sendable(random.choice(TEXTS))) for _ in range(random.choice((0, 0, 1, 2, 4)))
    )
    method = random.choice(("POST",) * 12 + ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"))
    paths = ("/api/", "/model", "/healthz", "/openapi.yaml", "/x", "//", "/%00", "/api/model/file")
    path = random.choice(("/",) * 8 + paths)
    return Case(body, query, headers, method, path)


def campaign(seconds: float, seed: int, keep: Path) -> int:
    """Fuzz for a while; returns how many requests went wrong."""
    wrong = 0
    with served() as serving:
        watch = Watch(serving)
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            number += 1
            random = Random(f"{seed}/{number}")
            case = (photo_case if random.random() < 0.7 else request_case)(random)
            try:
                watch.send(case)
            except (AssertionError, requests.RequestException, ValueError) as error:
                wrong += 1
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{number}").write_bytes(case.body)
                _say(f"{seed}/{number}: {error}\n  {case.method} {case.path} {case.query} {dict(case.headers)}")
                watch.before = max(watch.before, memory_of(serving) - MEMORY)
        peak = (memory_of(serving) - watch.before) / 2**20
        _say(f"{number:,} requests: {dict(sorted(watch.statuses.items()))}; {wrong} wrong; {peak:.0f} MiB at most")
        odd = [line for line in serving.log.read_text(errors="replace").splitlines() if line[:1] != "{"]
        _say(f"{len(odd)} lines in the log that are not ours: {odd[:5]}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1, help="the same seed sends the same requests")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for what went wrong")
    options = parser.parse_args()
    sys.exit(campaign(60 * options.minutes, options.seed, options.keep) > 0)


@contextmanager
def served(bundle: Path | None = None) -> Iterator[Serving]:
    """Serve a tiny model, or that of a bundle, from a store of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder / "store", bundle or build_tiny_bundle(folder / "bundle"))
        with serve(folder / "store", folder / "server", **SETTINGS) as serving:
            yield serving


def _sendable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
