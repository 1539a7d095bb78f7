"""The rules of the shadow over every store: start, change, stop, and what a canary and a promotion make of it."""

from __future__ import annotations

import pytest

from classifier.errors import Conflict, InvalidRequest, NotFound, Refused
from classifier.registry.channels import Channels, Shadow
from tests.support.bundles import replay_bytes
from tests.support.registries import (  # noqa: F401  # fixtures
    bundle_fixture,
    local_fixture,
    promote,
    publish,
    registry_fixture,
    rollback,
)


def start(registry, version="v2", sample=0.1, **options):
    return registry.start_shadow(version, sample, who="kim", reason="", replay=replay_bytes, **options)


def start_canary(registry, version="v2"):
    return registry.start_canary(version, 10, who="kim", reason="", replay=replay_bytes)


def test_a_shadow_is_started_changed_and_stopped(registry, bundle):
    publish(registry, bundle, times=2)
    promote(registry, "v1")
    entry = start(registry)
    assert (entry.action, entry.channel, entry.from_version, entry.to_version) == ("shadow start", "shadow", None, "v2")
    first = registry.channels().shadow
    assert (first.version, first.sample, first.keep_photos) == ("v2", 0.1, False)
    assert first.manifest_sha256 == registry.manifest("v2")[1]
    assert start(registry) is None
    entry = start(registry, sample=1, keep_photos=True)
    assert (entry.action, entry.extra) == ("shadow change", {"sample": 1, "keep_photos": True, "from_sample": 0.1})
    second = registry.channels().shadow
    assert (second.sample, second.keep_photos, second.since) == (1, True, first.since)
    entry = registry.stop_shadow(who="kim", reason="seen enough")
    assert (entry.action, entry.from_version, entry.to_version, entry.reason) == (
        "shadow stop",
        "v2",
        "v1",
        "seen enough",
    )
    channels = registry.channels()
    assert (channels.shadow, channels.served()) == (None, ["v1"])
    with pytest.raises(NotFound, match="There is no shadow"):
        registry.stop_shadow(who="kim", reason="")


def test_what_cannot_be_a_shadow_is_refused(registry, bundle):
    publish(registry, bundle, times=3)
    with pytest.raises(Refused, match="Promote the first one"):
        start(registry)
    promote(registry, "v1")
    for sample in (0, -0.1, 1.01, 10, float("nan")):
        with pytest.raises(InvalidRequest, match="above 0 and up to 1"):
            start(registry, sample=sample)
    with pytest.raises(Refused, match="serves everybody already"):
        start(registry, "v1")
    with pytest.raises(NotFound, match="received 'v9'"):
        start(registry, "v9")
    start(registry, "v2")
    with pytest.raises(Conflict, match="v2 is the shadow"):
        start(registry, "v3")
    assert [each.action for each in registry.channels().history] == ["promote", "shadow start"]


def test_a_canary_and_a_shadow_do_not_run_together_and_a_shadow_becomes_one(registry, bundle):
    publish(registry, bundle, times=3)
    promote(registry, "v1")
    start(registry)
    with pytest.raises(Conflict, match="v2 is the shadow, and an instance holds two models"):
        start_canary(registry, "v3")
    start_canary(registry, "v2")
    channels = registry.channels()
    assert (channels.canary.version, channels.shadow) == ("v2", None)
    with pytest.raises(Conflict, match="v2 is the canary, and an instance holds two models"):
        start(registry, "v3")


def test_a_shadow_that_is_promoted_or_rolled_back_to_ends(registry, bundle):
    publish(registry, bundle, times=3)
    promote(registry, "v1")
    start(registry)
    promote(registry, "v3")
    assert registry.channels().shadow.version == "v2"
    promote(registry, "v2")
    assert registry.channels().shadow is None
    start(registry, "v1")
    rollback(registry, to="v1")
    assert registry.channels().shadow is None


def test_a_file_keeps_what_it_does_not_know_of_a_shadow_and_reads_an_older_ones():
    stored = Channels(shadow=Shadow("v2", "a" * 64, {"colour": "grey"}, 0.5, keep_photos=True)).to_json()
    again = Channels.from_json(stored, 1)
    assert (again.shadow.sample, again.shadow.keep_photos, again.shadow.extra) == (0.5, True, {"colour": "grey"})
    older = Channels.from_json(
        b'{"schema_version": 1, "history": [], "shadow": {"version": "v2", "manifest_sha256": "%s"}}' % (b"a" * 64), 1
    )
    assert (older.shadow.version, older.shadow.sample, older.shadow.keep_photos) == ("v2", 0, False)
