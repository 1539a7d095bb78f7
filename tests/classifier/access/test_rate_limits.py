"""How often a caller may ask: the counters, what callers are told, and a real Redis that is shared, down and back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from firebase_admin import _token_gen, app_check
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from classifier.access.admission import FAILED_ATTEMPTS
from classifier.access.limits import Quota, RateLimits, headers
from classifier.endpoints.app import create_app
from classifier.settings import Settings
from tests.support.serving import MODEL, closed_port, photo_bytes, publish, serve
from tests.support.tokens import OTHER, PROJECT, app_token, attested, bearer, google, id_token

START = 1_800_014_415.0  # a quarter into a minute, because windows begin on the minute
needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class Clock:
    """The wall clock, which the counters read, standing still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def signers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Google's keys, from a loopback server."""
    with google() as answers:
        monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", f"{answers.url}/certs")
        monkeypatch.setattr(app_check._AppCheckService, "_JWKS_URL", f"{answers.url}/jwks")
        yield


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[str]:
    """A Redis of its own, which keeps nothing; yields its URL."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (folder / "redis.log").open("ab") as output:
        process = subprocess.Popen([*command, "--dir", folder], stdout=output, stderr=subprocess.STDOUT)
    try:
        client = redis.Redis(port=port)
        until = time.monotonic() + 20
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert process.poll() is None and time.monotonic() < until, (folder / "redis.log").read_text()
                time.sleep(0.02)
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def client_for(folder: Path, **changes: Any) -> FlaskClient:
    """A client of an app whose store is empty: whoever is let in at /model gets 503 there."""
    settings = Settings(**{"model_store": str(folder / "store"), "model_name": MODEL, "project": PROJECT, **changes})
    return create_app(settings).test_client()


def ask(client: FlaskClient, address: str = "192.0.2.1", **more: str) -> TestResponse:
    return client.get("/model", headers=more, environ_base={"REMOTE_ADDR": address})


def quota(reply: TestResponse) -> tuple[str, int, int]:
    """Read the field RateLimit of one policy: its name, what remains, seconds until more does."""
    found = re.fullmatch(r'"([a-z0-9/-]+)";r=([0-9]+);t=([0-9]+)', reply.headers["RateLimit"])
    assert found, reply.headers["RateLimit"]
    return found[1], int(found[2]), int(found[3])


def told_to_wait(reply: TestResponse) -> int:
    """Check a 429 and return its Retry-After."""
    body = reply.get_json(force=True)
    assert (reply.status_code, body["type"]) == (429, "urn:pointer:problem:rate-limited"), body
    assert reply.content_type == "application/problem+json"
    assert body["request_id"] == reply.headers["X-Request-Id"]
    wait = int(reply.headers["Retry-After"])
    assert f"Try again in {wait} seconds." in body["detail"]
    assert quota(reply)[1:] == (0, wait)
    return wait


# The counters


def test_a_caller_has_its_limit_and_another_its_own(clock: Clock) -> None:
    limits = RateLimits()
    seen = [limits.hit("3/minute", "ana") for _ in range(5)]
    assert [[one.allowed for one in quotas] for quotas in seen] == [[True]] * 3 + [[False]] * 2
    assert [quotas[0].remaining for quotas in seen] == [2, 1, 0, 0, 0]
    assert limits.hit("3/minute", "eve")[0].remaining == 2


def test_the_window_slides(clock: Clock) -> None:
    limits = RateLimits()
    assert all(limits.hit("60/minute", "ana")[0].allowed for _ in range(60))
    [refused] = limits.hit("60/minute", "ana")
    assert (refused.allowed, refused.reset, refused.window) == (False, 45, 60)
    clock.now += 45 + 30  # half of the last window still counts
    assert sum(limits.hit("60/minute", "ana")[0].allowed for _ in range(60)) == 30
    [refused] = limits.hit("60/minute", "ana")
    assert not refused.allowed
    for _ in range(100):
        clock.now += refused.reset + 0.01
        assert limits.hit("60/minute", "ana")[0].allowed, "the wait that was told was too short"
        while (refused := limits.hit("60/minute", "ana")[0]).allowed:
            pass


def test_several_limits_hold_at_once(clock: Clock) -> None:
    limits = RateLimits()
    policy = "2/second,3/day"
    assert [one.allowed for one in limits.hit(policy, "ana")] == [True, True]
    limits.hit(policy, "ana")
    assert [(one.policy, one.allowed) for one in limits.hit(policy, "ana")] == [("2/second", False)]
    clock.now += 10
    assert [one.remaining for one in limits.hit(policy, "ana")] == [1, 0]
    assert [(one.policy, one.allowed) for one in limits.hit(policy, "ana")] == [("2/second", True), ("3/day", False)]


def test_a_hit_may_count_several_times_or_not_at_all(clock: Clock) -> None:
    limits = RateLimits()
    seen = [limits.hit("10/minute", "ana", cost=cost)[0] for cost in (8, 3, 2, 1)]
    assert [(one.allowed, one.remaining) for one in seen] == [(True, 2), (False, 2), (True, 0), (False, 0)]
    first, second = "4/second,10/day", "4/second"
    assert [one.remaining for one in limits.hit(first, "eve", cost=4)] == [0, 6]
    assert [(one.policy, one.allowed) for one in limits.hit(first, "eve", cost=4)] == [(second, False)]
    clock.now += 10
    assert [one.remaining for one in limits.hit(first, "eve", cost=4)] == [0, 2]


@pytest.mark.parametrize("cost", [2, 7, 30, 60])
def test_the_wait_for_several_is_long_enough_and_no_longer(clock: Clock, cost: int) -> None:
    limits = RateLimits()
    for _ in range(60):
        while limits.hit("60/minute", "ana", cost=cost)[0].allowed:
            pass
        [refused] = limits.hit("60/minute", "ana", cost=cost)
        clock.now += refused.reset - 1.01
        assert refused.reset == 1 or not limits.hit("60/minute", "ana", cost=cost)[0].allowed
        clock.now += 1.02
        assert limits.hit("60/minute", "ana", cost=cost)[0].allowed
        clock.now += 0.37


def test_threads_do_not_get_more(clock: Clock) -> None:
    limits = RateLimits()
    with ThreadPoolExecutor(8) as threads:
        hits = list(threads.map(lambda _: limits.hit("20/day", "ana")[0].allowed, range(100)))
    assert sum(hits) == 20


def test_fields_are_structured() -> None:
    quotas = [Quota("5/second", 5, 1, 4, 1, True), Quota("failed-attempts", 30, 60, 0, 17, False)]
    assert headers(quotas) == {
        "RateLimit-Policy": '"5/second";q=5;w=1, "failed-attempts";q=30;w=60',
        "RateLimit": '"5/second";r=4;t=1, "failed-attempts";r=0;t=17',
    }
    assert headers([]) == {}


# The app


def test_no_limit_unless_one_is_set(tmp_path: Path) -> None:
    client = client_for(tmp_path)
    replies = [ask(client) for _ in range(100)]
    assert {reply.status_code for reply in replies} == {503}
    assert not any(name.startswith("RateLimit") for reply in replies for name in reply.headers.keys())  # noqa: SIM118


def test_a_caller_is_told_what_remains_and_then_to_wait(tmp_path: Path, clock: Clock) -> None:
    client = client_for(tmp_path, rate_limit="3/minute")
    replies = [ask(client) for _ in range(3)]
    assert [quota(reply) for reply in replies] == [("3/minute", left, 45) for left in (2, 1, 0)]
    assert replies[0].headers["RateLimit-Policy"] == '"3/minute";q=3;w=60'
    assert told_to_wait(ask(client)) == 45
    assert told_to_wait(client.post("/", environ_base={"REMOTE_ADDR": "192.0.2.1"})) == 45, "another path, same limit"
    assert ask(client, "192.0.2.2").status_code == 503, "another caller"
    clock.now += 46
    assert ask(client).status_code == 503


def test_what_is_open_is_not_limited(tmp_path: Path, clock: Clock) -> None:
    client = client_for(tmp_path, rate_limit="1/day")
    ask(client, "127.0.0.1")
    told_to_wait(ask(client, "127.0.0.1"))
    for path in ("/healthz", "/openapi.yaml", "/", "/page.js"):
        reply = client.get(path)
        assert reply.status_code == 200 and "RateLimit" not in reply.headers
    assert client.options("/").status_code == 200


def test_addresses_are_those_that_trusted_proxies_saw(tmp_path: Path, clock: Clock) -> None:
    client = client_for(tmp_path, rate_limit="2/day", trusted_proxies=1)
    for invented in ("1.1.1.1", "2.2.2.2"):
        assert ask(client, **{"X-Forwarded-For": f"{invented}, 198.51.100.1"}).status_code == 503
    told_to_wait(ask(client, **{"X-Forwarded-For": "3.3.3.3, 198.51.100.1"}))
    assert ask(client, **{"X-Forwarded-For": "3.3.3.3, 198.51.100.2"}).status_code == 503


def test_a_user_is_one_caller_wherever_it_calls_from(tmp_path: Path, signers: None) -> None:
    client = client_for(tmp_path, access="auth", rate_limit="2/day")
    for address in ("192.0.2.1", "192.0.2.2"):
        assert ask(client, address, **bearer(id_token())).status_code == 503
    told_to_wait(ask(client, "192.0.2.3", **bearer(id_token())))
    assert ask(client, "192.0.2.3", **bearer(id_token(sub="ben"))).status_code == 503


def test_an_app_is_one_caller_where_users_are_not_known(tmp_path: Path, signers: None) -> None:
    client = client_for(tmp_path, access="app-check", rate_limit="2/day")
    for address in ("192.0.2.1", "192.0.2.2"):
        assert ask(client, address, **attested(app_token())).status_code == 503
    told_to_wait(ask(client, "192.0.2.3", **attested(app_token())))
    assert ask(client, "192.0.2.3", **attested(app_token(sub="1:1:ios:f"))).status_code == 503
    both = client_for(tmp_path, access="auth+app-check", rate_limit="1/day")
    for user in ("ana", "ben"):
        assert ask(both, **bearer(id_token(sub=user)), **attested(app_token())).status_code == 503


def test_failed_attempts_are_limited_by_address_and_lock_nobody_out(
    tmp_path: Path, signers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_for(tmp_path, access="auth", access_claim="member")
    limits = RateLimits()
    allowed = limits.hit(FAILED_ATTEMPTS, "")[0].limit
    # Two windows may follow each other while this runs.
    statuses = [ask(client, **bearer("garbage")).status_code for _ in range(3 * allowed)]
    assert statuses[:allowed] == [401] * allowed and statuses[-1] == 429
    refusals = [line for line in capsys.readouterr().out.splitlines() if "Refused a caller." in line]
    assert len(refusals) == statuses.count(401), "those that were told to wait fill no log"
    reply = ask(client, **bearer(id_token(OTHER)))
    told_to_wait(reply)
    assert quota(reply)[0] == "failed-attempts"
    assert ask(client, **bearer(id_token())).status_code == 429, "a user without the claim"
    assert ask(client, **bearer(id_token(member=True))).status_code == 503, "a good token passes"
    assert ask(client, "192.0.2.2", **bearer("garbage")).status_code == 401, "another address"


def test_a_real_server_limits_before_the_photo_is_read(tmp_path: Path, tiny_bundle: Path) -> None:
    publish(tmp_path / "store", tiny_bundle)
    settings = {"RATE_LIMIT": "2/day", "CORS_ORIGINS": "https://a.example", "MAX_IMAGE_BYTES": "200000"}
    with serve(tmp_path / "store", tmp_path / "server", **settings) as server:
        photo = {"files": {"image": photo_bytes()}, "headers": {"Origin": "https://a.example"}}
        assert [server.post(**photo).status_code for _ in range(2)] == [200, 200]
        large = {"data": bytes(5_000_000), "headers": {"Origin": "https://a.example"}}  # over the limit of bytes
        for sent in (photo, large):
            reply = server.post(**sent)
            assert reply.status_code == 429, reply.text
            assert 0 < int(reply.headers["Retry-After"]) <= 86_400
            assert reply.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert "RateLimit-Policy" in reply.headers["Access-Control-Expose-Headers"]
        log = server.log.read_text()
        assert log.count("Predicted.") == 2 and "Traceback" not in log


# Redis


@needs_redis
def test_instances_share_a_redis(tmp_path: Path) -> None:
    with redis_server(tmp_path, closed_port()) as url:
        first, second = (client_for(tmp_path, rate_limit="4/day", rate_limit_store=url) for _ in range(2))
        left = [quota(ask(client))[1] for client in (first, second, first, second)]
        assert left == [3, 2, 1, 0]
        for client in (first, second):
            assert 86_000 < told_to_wait(ask(client)) <= 86_400
        assert ask(second, "192.0.2.2").status_code == 503
        with ThreadPoolExecutor(8) as threads:
            limits = [RateLimits(url), RateLimits(url)]
            hits = list(threads.map(lambda number: limits[number % 2].hit("10/day", "ana")[0].allowed, range(60)))
        assert sum(hits) == 10
        several = [RateLimits(url).hit("10/day", "eve", cost=cost)[0] for cost in (8, 3, 2)]
        assert [(one.allowed, one.remaining) for one in several] == [(True, 2), (False, 2), (True, 0)]


@needs_redis
def test_an_instance_counts_alone_while_redis_is_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = closed_port()
    url = f"redis://:secret@127.0.0.1:{port}/0"
    limits, patient = RateLimits(url, backoff=0.0), RateLimits(url, backoff=1000.0)
    assert [limits.hit("2/day", "ana")[0].allowed for _ in range(3)] == [True, True, False]
    assert [patient.hit("2/day", "ben")[0].allowed for _ in range(3)] == [True, True, False]
    written = capsys.readouterr().out
    entries = [json.loads(line) for line in written.splitlines()]
    assert len(entries) == 3 + 1, "it is looked for again after the backoff, and logged then"
    assert {entry["severity"] for entry in entries} == {"ERROR"} and "ConnectionError" in entries[0]["reason"]
    assert "secret" not in written
    with redis_server(tmp_path, port) as url_without_password:
        client = redis.Redis(port=port)
        client.config_set("requirepass", "secret")
        client.close()
        assert [limits.hit("2/day", "ana")[0].remaining for _ in range(2)] == [1, 0], "Redis counts from here on"
        assert not patient.hit("2/day", "ben")[0].allowed, "it is left alone still"
        assert capsys.readouterr().out == ""
        wrong = RateLimits(url_without_password, backoff=0.0)
        assert wrong.hit("2/day", "ana")[0].allowed, "a Redis that refuses is no Redis"
        assert "AuthenticationError" in capsys.readouterr().out
    assert limits.hit("2/day", "ana")[0].allowed is False, "its own count is still there"


@needs_redis
def test_a_redis_that_was_restarted_is_used_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = closed_port()
    with redis_server(tmp_path, port) as url:
        limits = RateLimits(url)
        limits.hit("5/day", "ana")
    with redis_server(tmp_path, port):
        assert limits.hit("5/day", "ana")[0].remaining == 4
    assert capsys.readouterr().out == ""
