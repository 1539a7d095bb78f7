"""The rules of the canary over every store: start, raise, promote and abort, each one compare-and-swap."""

from __future__ import annotations

import pytest

from classifier.errors import Conflict, InvalidRequest, NotFound, Refused
from classifier.registry.channels import Channels
from tests.support.bundles import replay_bytes
from tests.support.registries import (  # noqa: F401  # fixtures
    bundle_fixture,
    local_fixture,
    promote,
    publish,
    registry_fixture,
    rollback,
    serving,
)


def start(registry, version="v2", percent=10.0):
    return registry.start_canary(version, percent, who="kim", reason="", replay=replay_bytes)


def test_a_canary_is_started_raised_and_promoted(registry, bundle):
    publish(registry, bundle, times=2)
    promote(registry, "v1")
    entry = start(registry)
    assert (entry.action, entry.channel, entry.from_version, entry.to_version) == ("canary start", "canary", None, "v2")
    first = registry.channels().canary
    assert (first.version, first.percent, first.manifest_sha256) == ("v2", 10.0, registry.manifest("v2")[1])
    assert len(first.salt) >= 16
    assert start(registry) is None
    entry = start(registry, percent=25)
    assert (entry.action, entry.extra) == ("canary percent", {"percent": 25, "from_percent": 10.0})
    second = registry.channels().canary
    assert (second.percent, second.salt, second.since) == (25.0, first.salt, first.since)
    assert serving(registry) == "v1"
    promote(registry, "v2")
    channels = registry.channels()
    assert (channels.production.version, channels.canary) == ("v2", None)
    assert channels.served() == ["v1", "v2"]
    assert [each.action for each in channels.history] == ["promote", "canary start", "canary percent", "promote"]


def test_an_abort_leaves_production_and_says_why(registry, bundle):
    publish(registry, bundle, times=3)
    promote(registry, "v1")
    start(registry)
    with pytest.raises(Conflict, match="Expected v3 to be the canary; v2 is"):
        registry.abort_canary(who="kim", reason="", version="v3")
    entry = registry.abort_canary(who="kim", reason="slow", figures={"p95_ms": 900})
    assert (entry.from_version, entry.to_version, entry.reason) == ("v2", "v1", "slow")
    stored = registry.channels()
    assert (stored.canary, stored.history[-1].extra["figures"]) == (None, {"p95_ms": 900})
    with pytest.raises(NotFound, match="There is no canary"):
        registry.abort_canary(who="kim", reason="")
    other = start(registry, "v3")
    assert other is not None
    promote(registry, "v2")
    assert registry.channels().canary.version == "v3"
    rollback(registry)
    assert registry.channels().canary.version == "v3"


def test_what_cannot_be_a_canary_is_refused(registry, bundle):
    publish(registry, bundle, times=3)
    with pytest.raises(Refused, match="Promote the first one"):
        start(registry)
    promote(registry, "v1")
    for percent in (0, -1, 101, float("nan")):
        with pytest.raises(InvalidRequest, match="above 0 and up to 100"):
            start(registry, percent=percent)
    with pytest.raises(Refused, match="serves everybody already"):
        start(registry, "v1")
    with pytest.raises(NotFound, match="received 'v9'"):
        start(registry, "v9")
    start(registry, "v2")
    with pytest.raises(Conflict, match="v2 is the canary, at 10 %"):
        start(registry, "v3")
    assert [each.action for each in registry.channels().history] == ["promote", "canary start"]


def test_a_canary_of_the_earlier_releases_fields_is_read():
    plain = b'{"schema_version": 1, "canary": {"version": "v2", "manifest_sha256": "%s", "later": 1}}' % (b"0" * 64)
    channels = Channels.from_json(plain, 1)
    assert (channels.canary.percent, channels.canary.extra) == (0.0, {"later": 1})
    assert Channels.from_json(channels.to_json(), 2).canary == channels.canary
