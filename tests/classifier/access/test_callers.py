"""Whom a request counts as: the user, the app, or the address that a trusted proxy wrote."""

from __future__ import annotations

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from classifier.access import caller
from classifier.access.caller import client_address
from tests.support.tokens import APP, USER


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, "192.0.2.1"),
        (0, "198.51.100.1", "192.0.2.1"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (1, "6.6.6.6,198.51.100.1 ", "198.51.100.1"),
        (2, "6.6.6.6, 198.51.100.1, 35.191.0.1", "198.51.100.1"),
        (2, "198.51.100.1", "192.0.2.1"),
        (1, None, "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "198.51.100.1, unknown", "192.0.2.1"),
        (1, "198.51.100.1, 10.0.0.1:80", "192.0.2.1"),
        (1, "::ffff:198.51.100.1", "198.51.100.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (1, "2001:db8:1:2::9", "2001:db8:1:2::"),
    ],
)
def test_only_what_trusted_proxies_wrote_is_believed(proxies: int, forwarded: str | None, address: str) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    builder = EnvironBuilder(headers=headers, environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert client_address(Request(builder.get_environ()), proxies) == address


def test_callers_are_told_apart() -> None:
    assert caller.Caller("192.0.2.1", USER, APP).key == f"user/{USER}"
    assert caller.Caller("192.0.2.1", None, APP).key == f"app/{APP}"
    assert caller.Caller("192.0.2.1").key == "address/192.0.2.1"
