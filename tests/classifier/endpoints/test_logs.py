"""The log as Cloud Logging gets it: real lines of a real process, each request's with its trace, none with a photo."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from classifier import logs
from classifier.endpoints.traces import trace_fields
from tests.support.serving import Serving, damage, photo_bytes, publish, serve

PHOTO = photo_bytes()
JPEG = {"Content-Type": "image/jpeg"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
OF_TRACE = {
    "logging.googleapis.com/trace": f"projects/demo-pointer/traces/{TRACE}",
    "logging.googleapis.com/spanId": SPAN,
    "logging.googleapis.com/trace_sampled": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Iterator[Serving]:
    """A server whose first request, "first", belonged to a trace."""
    folder = tmp_path_factory.mktemp("logs")
    publish(folder / "store", tiny_bundle_original)
    with serve(folder / "store", folder, GOOGLE_CLOUD_PROJECT="demo-pointer", MAX_IMAGE_BYTES="100000") as serving:
        headers = {**JPEG, "X-Request-Id": "first", "traceparent": TRACEPARENT}
        assert serving.post(data=PHOTO, headers=headers).status_code == 200
        yield serving


def lines(serving: Serving, request_id: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]
    return [entry for entry in entries if entry.get("request_id") == request_id]


def ask(serving: Serving, request_id: str, query: str = "", **headers: str) -> tuple[requests.Response, dict[str, Any]]:
    """Send the photo; return the reply and its one line."""
    reply = serving.post(f"/{query}", data=PHOTO, headers={**JPEG, "X-Request-Id": request_id, **headers})
    [line] = lines(serving, request_id)
    return reply, line


def test_the_first_load_says_what_was_loaded_for_which_request(server: Serving) -> None:
    loaded, predicted = lines(server, "first")
    assert (loaded["severity"], loaded["message"], loaded["version"]) == ("INFO", "Loaded v1.", "v1")
    assert loaded["variant"] == "float32" and re.fullmatch("[0-9a-f]{12}", loaded["sha256"])
    assert loaded["bytes"] > 1000 and loaded["loaded_ms"] > 0
    assert loaded["interpreters"] >= 1 and loaded["threads"] >= 1
    for line in (loaded, predicted):
        assert {name: line.get(name) for name in OF_TRACE} == OF_TRACE


def test_a_prediction_is_one_line(server: Serving) -> None:
    reply, line = ask(server, "r1", "?gradcam=1&top_k=2", **{"User-Agent": "a phone", "traceparent": TRACEPARENT})
    body = reply.json()
    request = line.pop("httpRequest")
    assert re.fullmatch(r"\d+\.\d{3}s", request.pop("latency"))
    assert request == {
        "requestMethod": "POST",
        "requestUrl": "/",
        "status": 200,
        "responseSize": str(len(reply.content)),
        "userAgent": "a phone",
    }
    steps = [f"{step}_ms" for step in ("decode", "queue", "infer", "encode")]
    times = [line.pop(step) for step in steps]
    assert all(isinstance(each, float) and each >= 0 for each in times) and times[0] > 0 and times[2] > 0
    assert line == {
        "severity": "INFO",
        "message": "Predicted.",
        "request_id": "r1",
        **OF_TRACE,
        "version": "v1",
        "channel": "production",
        "label": body["label"],
        "confidence": body["confidence"],
        "score": body["score"],
        "tta": False,
        "views": 1,
        "cached": False,
        "status": body["status"],
    }
    told = dict(re.findall(r"(\w+);dur=([\d.]+)", reply.headers["Server-Timing"]))
    assert [float(told[step.removesuffix("_ms")]) for step in steps] == times


def test_googles_own_header_counts_where_there_is_no_better(server: Serving) -> None:
    _, line = ask(server, "google", **{"X-Cloud-Trace-Context": f"{TRACE}/67667974448284343;o=0"})
    assert {name: line[name] for name in OF_TRACE} == {**OF_TRACE, "logging.googleapis.com/trace_sampled": False}


def test_a_trace_ends_with_its_request(server: Serving) -> None:
    with requests.Session() as connection:
        for request_id, headers in (("traced", {"traceparent": TRACEPARENT}), ("untraced", {})):
            sent = {**JPEG, "X-Request-Id": request_id, **headers}
            assert connection.post(server.url, PHOTO, headers=sent, timeout=30).ok
    [line] = lines(server, "untraced")
    assert not OF_TRACE.keys() & line.keys()
    assert OF_TRACE.keys() <= lines(server, "traced")[0].keys()


@pytest.mark.parametrize(
    ("query", "photo", "status", "slug"),
    [
        ("?top_k=secret", PHOTO, 400, "invalid-request"),
        ("?gradcam=secret", PHOTO, 400, "invalid-request"),
        ("", b"secret", 422, "invalid-image"),
        ("", bytes(100_001), 413, "too-large"),
        ("secret", PHOTO, 404, "not-found"),
    ],
)
def test_a_request_that_fails_is_one_line_without_what_was_sent(
    server: Serving, query: str, photo: bytes, status: int, slug: str
) -> None:
    request_id = f"{slug}-{len(query)}"
    headers = {**JPEG, "X-Request-Id": request_id, "traceparent": TRACEPARENT}
    reply = server.post(f"/{query}", data=photo, headers=headers)
    assert reply.status_code == status
    [line] = lines(server, request_id)
    assert (line["severity"], line["slug"], line["httpRequest"]["status"]) == ("INFO", slug, status)
    assert {name: line[name] for name in OF_TRACE} == OF_TRACE
    assert "secret" not in json.dumps({**line, "httpRequest": {**line["httpRequest"], "requestUrl": ""}})
    assert line["httpRequest"]["requestUrl"] == ("/secret" if status == 404 else "/")


def test_what_only_reads_has_no_line(server: Serving) -> None:
    for path in ("/healthz", "/model", "/"):
        assert server.get(path, headers={"X-Request-Id": "reader"}).ok
    assert lines(server, "reader") == []


def test_no_photo_is_ever_logged(server: Serving) -> None:
    ask(server, "photo")
    encoded = base64.b64encode(PHOTO).decode()
    assert server.post(json={"image": encoded}).ok
    log = server.log.read_text()
    assert encoded[:40] not in log and "JFIF" not in log
    assert max(len(line) for line in log.splitlines()) < 1500


def test_a_fault_of_ours_has_its_stack_in_the_log_and_not_in_the_reply(tmp_path: Path, tiny_bundle: Path) -> None:
    publish(tmp_path / "store", tiny_bundle)
    damage(tmp_path / "store")
    with serve(tmp_path / "store", tmp_path / "server") as serving:
        headers = {**JPEG, "X-Request-Id": "r1", "traceparent": TRACEPARENT}
        reply = serving.post(data=PHOTO, headers=headers)
        assert reply.status_code == 503 and "Traceback" not in reply.text and ".py" not in reply.text
        tried, failed = lines(serving, "r1")
    assert tried["message"].startswith("v1 cannot be served") and failed["slug"] == "corrupt-version"
    for line in (tried, failed):
        assert line["severity"] == "ERROR" and line["@type"].endswith("ReportedErrorEvent")
        assert line["stack_trace"].startswith("Traceback (most recent call last):")
        assert line["logging.googleapis.com/trace"] == TRACE, "no project is known"
    assert "loader.py" in tried["stack_trace"]
    assert (failed["httpRequest"]["status"], failed["store"]) == (503, str(tmp_path / "store"))


def test_a_swap_belongs_to_no_request(tmp_path: Path, tiny_bundle: Path) -> None:
    publish(tmp_path / "store", tiny_bundle)
    with serve(tmp_path / "store", tmp_path / "server", POINTER_TTL="0") as serving:
        serving.post(data=PHOTO, headers={**JPEG, "traceparent": TRACEPARENT})
        publish(tmp_path / "store", tiny_bundle)
        for _ in range(500):
            reply = serving.post(data=PHOTO, headers={**JPEG, "traceparent": TRACEPARENT})
            if reply.json()["model"]["version"] == "v2":
                break
        entries = [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]
    [swapped] = [entry for entry in entries if entry["message"] == "v2 serves."]
    [loaded] = [entry for entry in entries if entry["message"] == "Loaded v2."]
    assert swapped["before"] == "v1" and loaded["variant"] == "float32"
    for entry in (swapped, loaded):
        assert "request_id" not in entry and "logging.googleapis.com/trace" not in entry


@pytest.mark.parametrize(
    "header",
    [
        "",
        TRACEPARENT.upper(),
        TRACEPARENT.replace("00-", "ff-", 1),
        f"{TRACEPARENT}-extra",
        f"{TRACEPARENT},{TRACEPARENT}",
        f" {TRACEPARENT}",
        f"{TRACEPARENT}\n",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"01-{TRACE}-{SPAN}-01x",
        f"00-{'٣' * 32}-{SPAN}-01",
        f"00-../{TRACE[3:]}-{SPAN}-01",
    ],
)
def test_a_traceparent_that_is_not_one_is_ignored(header: str) -> None:
    assert trace_fields(header, "", project="p") == {}
    assert (
        trace_fields(header, f"{TRACE};o=1", project="p")["logging.googleapis.com/trace"]
        == f"projects/p/traces/{TRACE}"
    )


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (TRACEPARENT, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-x", True),
    ],
)
def test_a_traceparent_is_read(header: str, sampled: bool) -> None:
    assert trace_fields(header, "1" * 32, project="demo-pointer") == {
        **OF_TRACE, "logging.googleapis.com/trace_sampled": sampled
    }  # fmt: skip


@pytest.mark.parametrize(
    "header",
    ["x", TRACE[1:], "0" * 32, f"{TRACE}/{2**64}", f"{TRACE}/-1", f"{TRACE}/1;o=x", f"{TRACE}/;o=1", f"{TRACE}\n"],
)
def test_a_cloud_trace_context_that_is_not_one_is_ignored(header: str) -> None:
    assert trace_fields("", header, project="p") == {}


@pytest.mark.parametrize(
    ("header", "span", "sampled"),
    [
        (TRACE, None, False),
        (f"{TRACE.upper()}/1;o=1", "0000000000000001", True),
        (f"{TRACE}/{2**64 - 1}", "f" * 16, False),
        (f"{TRACE}/0;o=1", None, True),
    ],
)
def test_a_cloud_trace_context_is_read(header: str, span: str | None, sampled: bool) -> None:
    fields = trace_fields("", header, project="")
    assert fields["logging.googleapis.com/trace"] == TRACE
    assert fields.get("logging.googleapis.com/spanId") == span
    assert fields["logging.googleapis.com/trace_sampled"] is sampled


# At a terminal


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"label": "pizza", "confidence": 0.9971, "status": "ok", "version": "v1"}, "200 pizza 99.7 % v1 16 ms"),
        ({"label": "pie", "confidence": 0.4, "status": "unknown", "version": "v1"}, "200 pie 40.0 % unknown v1 16 ms"),
        ({"message": "Answered several photos.", "version": "v7"}, "200 Answered several photos v7 16 ms"),
        ({"message": "No.", "slug": "not-found"}, "200 not-found POST /a\\x1b[2J 16 ms"),
        (
            {"message": "Nothing is there.", "slug": "not-ready", "severity": "WARNING", "error": "NotReady: x"},
            "WARNING: 200 not-ready POST /a\\x1b[2J 16 ms (Nothing is there.) (NotReady: x)",
        ),
    ],
)
def test_a_request_is_a_line_to_read(entry: dict[str, Any], line: str) -> None:
    request = {"requestMethod": "POST", "requestUrl": "/a\x1b[2J", "status": 200, "latency": "0.016s"}
    assert logs.readable({"severity": "INFO", "message": "Predicted.", "httpRequest": request, **entry}) == line


def test_other_events_are_lines_to_read_with_their_stack_and_in_the_letters_there_are() -> None:
    assert logs.readable({"severity": "INFO", "message": "Loaded v1.", "version": "v1"}) == "Loaded v1."
    of_several = {"severity": "INFO", "message": "Predicted.", "index": 1, "label": "crème", "confidence": 1.0}
    assert logs.readable(of_several, "ascii") == r"photo 2: cr\xe8me 100.0 %"
    failed = {"severity": "ERROR", "message": "It broke.", "error": "ValueError: x", "stack_trace": "Traceback\n  x\n"}
    assert logs.readable(failed) == "ERROR: It broke. (ValueError: x)\nTraceback\n  x"


def test_a_function_at_a_terminal_writes_lines_to_read(published: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with serve(published, tmp_path, output=theirs) as serving:
        assert serving.post(data=PHOTO, headers=JPEG).ok
        assert serving.post(data=b"no photo", headers=JPEG).status_code == 422
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # at its end Linux says EIO
        written = b""
        while block := terminal.read(2**16):
            written += block
    lines = written.decode().replace("\r", "").splitlines()
    assert "Loaded v1." in lines
    assert any(re.fullmatch(r"200 \w+ \d+\.\d % (unknown )?v1 \d+ ms", line) for line in lines), lines
    assert any(re.fullmatch(r"422 invalid-image POST / \d+ ms", line) for line in lines), lines
    assert not any(line.startswith("{") for line in lines)
