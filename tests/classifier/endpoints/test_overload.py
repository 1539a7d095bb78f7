"""A real functions-framework process with more requests than it can answer: quick 503s, right answers, recovery."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
import requests

from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.serving import Serving, serve
from tests.support.slowed import slowed

CLIENTS = 24
EACH = 3


@pytest.fixture
def server(published: Path, tmp_path: Path) -> Iterator[Serving]:
    with serve(
        published, tmp_path / "server", INTERPRETERS="1", INTERPRETER_WAIT="1", MAX_WAITING="3", THREADS="32",
        PYTHONPATH=slowed(tmp_path / "slow", 0.2),
    ) as serving:  # fmt: skip
        assert serving.post(files={"image": colour_photo("red")}).json()["label"] == "red"
        yield serving


def test_overload_is_answered_quickly_and_passes(server: Serving) -> None:
    alive, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            alive.append(server.get("/healthz").json() == {"status": "ok"})
            time.sleep(0.05)

    def ask(client: int) -> list[tuple[str, requests.Response]]:
        label = TINY_LABELS[client % len(TINY_LABELS)]
        photos = [colour_photo(label, seed=client * EACH + number) for number in range(EACH)]  # none is asked for twice
        return [(label, server.post(files={"image": photo})) for photo in photos]

    watch = threading.Thread(target=look)
    watch.start()
    with ThreadPoolExecutor(CLIENTS) as clients:
        replies = [reply for answers in clients.map(ask, range(CLIENTS)) for reply in answers]
    done.set()
    watch.join()
    statuses = Counter(reply.status_code for _, reply in replies)
    assert set(statuses) == {200, 503} and statuses[200] >= 3
    assert len(alive) > 1 and all(alive)
    for label, reply in replies:
        if reply.status_code == 200:
            assert reply.json()["label"] == label
        else:
            body = reply.json()
            assert body["type"] == "urn:pointer:problem:overloaded"
            assert 1 <= int(reply.headers["Retry-After"]) <= 60
            assert f"Try again in {reply.headers['Retry-After']} s." in body["detail"]
    # Nobody waited for long: the log has how long each prediction did.
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line[:1] == "{"]
    waited = [line["queue_ms"] for line in lines if line["message"] == "Predicted."]
    assert waited and max(waited) < 10_000
    for label in TINY_LABELS:
        reply = server.post(files={"image": colour_photo(label, seed=9999)})
        assert (reply.status_code, reply.json()["label"]) == (200, label)


def test_a_stuck_interpreter_keeps_nobody_for_long(published: Path, tmp_path: Path) -> None:
    with serve(
        published, tmp_path / "server", INTERPRETERS="1", INTERPRETER_WAIT="0.3", THREADS="32",
        PYTHONPATH=slowed(tmp_path / "slow", 1.2),
    ) as serving:  # fmt: skip
        seeds = count()

        def ask() -> requests.Response:
            return serving.post(files={"image": colour_photo("red", seed=next(seeds))})

        with ThreadPoolExecutor(8) as clients:
            replies = list(clients.map(lambda _: ask(), range(8)))
            assert {reply.status_code for reply in replies} == {200, 503}
            one = clients.submit(ask)
            answers = []
            while not one.done() or len(answers) < 2:
                answers.append(ask())
                assert serving.get("/healthz").ok
            answers.append(one.result())
        assert {reply.status_code for reply in answers} == {200, 503}
        # One photo is known to take more than a second, and so they are told.
        refused = [reply for reply in answers if reply.status_code == 503]
        assert all(int(reply.headers["Retry-After"]) >= 2 for reply in refused)
