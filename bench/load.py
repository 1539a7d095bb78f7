"""Clients that ask a running function without a pause, and how each of their requests went."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

CALLERS = 200
"""Users, told apart by their address, where the function believes X-Forwarded-For (TRUSTED_PROXIES=1)."""
SWAPPED_WITHIN = 60.0


class Asked(NamedTuple):
    """One request."""

    began: float
    milliseconds: float
    version: str
    """"" where it failed."""
    channel: str


@contextmanager
def asking(port: int, photo: bytes, clients: int) -> Iterator[list[Asked]]:
    """Let clients ask without a pause meanwhile, as `CALLERS` users; the list grows as they are answered."""
    asked: list[Asked] = []
    ended = threading.Event()

    def ask(number: int) -> None:
        callers = itertools.count(number, clients)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not ended.is_set():
            began, version, channel = time.perf_counter(), "", ""
            try:
                address = f"10.0.0.{next(callers) % CALLERS + 1}"
                connection.request("POST", "/", photo, {"Content-Type": "image/jpeg", "X-Forwarded-For": address})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    model = json.loads(body)["model"]
                    version, channel = model["version"], model["channel"]
            except (OSError, http.client.HTTPException):
                connection.close()
            asked.append(Asked(began, (time.perf_counter() - began) * 1000, version, channel))
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(ask, number) for number in range(clients)]
        try:
            yield asked
        finally:
            ended.set()
            for each in running:
                each.result()


def send(port: int, path: str, body: bytes, media: str, address: str) -> tuple[str, bytes]:
    """Send a request on a connection of its own; return the status, or what became of the connection, and the reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, {"Content-Type": media, "X-Forwarded-For": address})
        reply = connection.getresponse()
        return str(reply.status), reply.read()
    except TimeoutError:
        return "no answer within 60 s", b""
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {type(error).__name__}", b""
    finally:
        connection.close()


def until_served(asked: list[Asked], version: str) -> None:
    """Wait until an answer is of this version."""
    until, seen = time.perf_counter() + SWAPPED_WITHIN, len(asked)
    while version not in {each.version for each in asked[seen:]}:
        if time.perf_counter() > until:
            raise RuntimeError(f"{version} was pointed at and did not come to serve.")
        time.sleep(0.02)


def wait_for(asked: list[Asked], count: int) -> None:
    """Wait until so many were answered."""
    while len(asked) < count:
        time.sleep(0.02)


def windows_of(asked: list[Asked], marks: list[tuple[float, bool]]) -> dict[bool, list[float]]:
    """Return the milliseconds of the requests that began in the steady windows (False) and in the others (True).

    Args:
        asked: the requests.
        marks: when each window began, and which kind it is; the last only ends the one before.
    """
    took: dict[bool, list[float]] = {True: [], False: []}
    for (began, busy), (ended, _) in pairwise(marks):
        took[busy] += [each.milliseconds for each in asked if began <= each.began < ended]
    return took
