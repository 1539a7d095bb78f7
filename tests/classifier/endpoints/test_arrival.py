"""Where a request ends, byte by byte: it decides when a thread begins, so it must be neither early nor late."""

from __future__ import annotations

import pytest

from classifier.endpoints import arrival
from classifier.endpoints.arrival import Arrival, Pace

PACE = Pace(within=50.0, least_rate=1000.0)
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def feed(blocks: list[bytes], longest_body: int = 100) -> list[bool]:
    """Whether the request was ready after each block."""
    arriving = Arrival(PACE, longest_body)
    ready = []
    for block in blocks:
        arriving.add(block)
        ready.append(arriving.ready)
        assert not arriving.whole or arriving.ready
    return ready


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: 5\r\n\r\nphoto",
        POST + b"content-length:   5  \r\n\r\n\r\n\r\n\n",
        POST + b"Content-Length: 0\r\n\r\n",
        POST + b"X-Content-Length: 9\r\nContent-Length: 5\r\n\r\nphoto",
        CHUNKED + b"0\r\n\r\n",
        CHUNKED + b"5\r\nphoto\r\n0\r\n\r\n",
        CHUNKED + b"5;name=value\r\n0\r\n\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nab\r\n0\r\nA-Trailer: x\r\nAnother: y\r\n\r\n",
    ],
)
def test_a_request_is_ready_with_its_last_byte(request_bytes: bytes) -> None:
    bytes_of_it = [request_bytes[at : at + 1] for at in range(len(request_bytes))]
    assert feed(bytes_of_it) == [False] * (len(request_bytes) - 1) + [True]
    assert feed([request_bytes + b"GET / HTTP/1.1\r\n"]) == [True]


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"Content-Length: 101\r\n\r\n",
        CHUNKED + b"65\r\n" + bytes(100),
        CHUNKED + b"no size\r\n",
        CHUNKED + b"-5\r\n",
        CHUNKED + b"5\r\nphotoXX\r\n",
        CHUNKED + b"1" * (arrival.LONGEST_CHUNK_LINE + 1),
        b"GET / HTTP/1.1\r\nA: " + b"a" * arrival.LONGEST_HEAD,
    ],
    ids=["too long", "too long in chunks", "no size", "a negative size", "a wrong size", "a long line", "a long head"],
)
def test_what_can_only_be_refused_is_not_waited_for(request_bytes: bytes) -> None:
    assert feed([request_bytes]) == [True]


def test_who_waits_for_a_word_is_known() -> None:
    for expectation, waits in ((b"100-continue", True), (b"100-Continue", True), (b"else", False)):
        arriving = Arrival(PACE, 100)
        arriving.add(POST + b"Content-Length: 5\r\nExpect: " + expectation + b"\r\n\r\n")
        assert (arriving.expects_continue, arriving.ready) == (waits, False)


def test_the_time_there_is_grows_with_what_came_up_to_a_total() -> None:
    assert PACE.allows(0) == PACE.grace == 10.0
    assert PACE.allows(20_000) == 30.0
    assert PACE.allows(10**9) == 50.0


def test_a_photo_of_2_mb_at_50_kb_a_second_is_in_time_by_default() -> None:
    from classifier.settings import Settings

    settings = Settings()
    pace = Pace(settings.request_within, settings.request_least_rate)
    assert all(pace.allows(second * 50_000) > second for second in range(41))
    assert all(pace.allows(second) <= 11 for second in range(60))  # a byte a second
