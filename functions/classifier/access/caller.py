"""Whom a request counts as: the user, the app, or the address that a trusted proxy wrote."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from flask import Request


@dataclass(frozen=True)
class Caller:
    """Who calls, as far as it is known."""

    address: str
    user: str | None = None
    app: str | None = None

    @property
    def key(self) -> str:
        """Under which its requests are counted: the user, else the app, else the address."""
        if self.user is not None:
            return f"user/{self.user}"
        return f"app/{self.app}" if self.app is not None else f"address/{self.address}"


def client_address(request: Request, proxies: int) -> str:
    """Find the address that called the outermost of ``proxies`` trusted proxies; that of the connection for none.

    Each proxy appends the address that called it to X-Forwarded-For, so that only as many entries from the right
    can be believed. An IPv6 address counts as its /64, which is what one customer is given.
    """
    entries = [entry.strip() for entry in request.headers.get("X-Forwarded-For", "").split(",")]
    claimed = entries[-proxies] if 0 < proxies <= len(entries) else ""
    for text in (claimed, request.remote_addr or ""):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is None:
                return str(ipaddress.ip_network((int(address), 64), strict=False).network_address)
            address = address.ipv4_mapped
        return str(address)
    return "unknown"
