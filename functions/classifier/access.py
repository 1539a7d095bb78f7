"""Who may call: verifies Firebase ID tokens and App Check tokens, and counts what each caller asks for."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Request, g, request
from werkzeug.datastructures import Headers

from classifier.errors import AccessUnavailable, Forbidden, RateLimited, TooLarge, Unauthenticated
from classifier.logs import log
from classifier.rate_limits import RateLimits
from classifier.settings import Settings

OPEN = frozenset({"healthz", "openapi", "page"})
"""The endpoints that anybody may call; whatever else is added is protected."""
FAILED_ATTEMPTS = "30/minute"
"""How often an address may fail to say who it is before it is told to wait. A good token is let through even then."""
LOOKUP_TIMEOUT = 5.0
"""Seconds that a request waits for keys or accounts."""
CLOCK_SKEW = 5
"""Seconds by which the clock that dated an ID token may differ from this one."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,2000}\.[A-Za-z0-9_-]{1,6000}\.[A-Za-z0-9_-]{0,2000}")
_REASONS = (
    ("too early", "issued in the future"),
    ("not yet valid", "issued in the future"),
    ("revoked", "revoked"),
    ("disabled", "disabled"),
    ("expired", "expired"),
    ("kid", "key id"),
    ("key id", "key id"),
    ("signing key", "key id"),
    ("signature", "signature"),
    ("alg", "algorithm"),
    ("aud", "audience"),
    ("iss", "issuer"),
    ("sub", "subject"),
)
"""What the libraries say, and what the log says: their own messages quote the token."""
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What the libraries raise, besides their own errors, when a token's parts are of unexpected types or depths."""


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


class Gate:
    """Lets requests in, before their bodies are read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens = Tokens(settings) if settings.access != "public" else None
        self._limits = RateLimits(settings.rate_limit_store)

    def admit(self) -> None:
        """Set ``g.caller`` and ``g.quotas`` for the request at hand, unless what it asks for is open to all.

        Raises:
            Unauthenticated: a token is missing or bad.
            Forbidden: the user lacks the claim.
            RateLimited: too many requests of this caller, or too many failures of this address.
            AccessUnavailable: tokens cannot be checked.
        """
        if _is_open(request):
            return
        address = client_address(request, self._settings.trusted_proxies)
        try:
            g.caller = self._tokens.caller(request.headers, address) if self._tokens else Caller(address)
        except (Unauthenticated, Forbidden) as error:
            self._count(FAILED_ATTEMPTS, f"failed/{address}", name="failed-attempts")
            g.refusal = error.reason if isinstance(error, Unauthenticated) else "claim"  # for the request's log line
            raise
        if self._settings.rate_limit:
            self._count(self._settings.rate_limit, g.caller.key)

    def admit_photos(self, count: int) -> None:
        """Count a request that has been admitted as often as it has photos: once for each.

        Raises:
            TooLarge: more photos than a limit ever allows.
            RateLimited: more photos than are left to the caller; those of this request are not counted, it is, once.
        """
        if not self._settings.rate_limit or count <= 1:
            return
        most = min(quota.limit for quota in g.quotas)
        if count > most:
            raise TooLarge(
                f"Expected at most {most} photos in a request, because that is how many are allowed in a while; "
                f"received {count}. Send the others in further requests."
            )
        g.quotas = self._limits.hit(self._settings.rate_limit, g.caller.key, cost=count - 1, again=count)
        for quota in g.quotas:
            if not quota.allowed:
                raise RateLimited(
                    f"Expected at most {quota.limit} photos in {quota.window} seconds; received {count}, with "
                    f"{quota.remaining + 1} left. Send fewer, or try again in {quota.reset} seconds.",
                    retry_after=quota.reset,
                )

    def _count(self, policy: str, key: str, *, name: str = "") -> None:
        g.quotas = self._limits.hit(policy, key, name=name)
        for quota in g.quotas:
            if not quota.allowed:
                raise RateLimited(
                    f"Expected at most {quota.limit} requests in {quota.window} seconds; received more. "
                    f"Try again in {quota.reset} seconds.",
                    retry_after=quota.reset,
                )


class Tokens:
    """Verifies tokens. firebase-admin is imported for the first one, and caches Google's keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        rules = settings.access.split("+")
        self._wanted = tuple(
            token for rule, token in (("auth", "id-token"), ("app-check", "app-check")) if rule in rules
        )
        self._lock = threading.Lock()
        self._app: Any = None

    def caller(self, headers: Headers, address: str) -> Caller:
        """Verify the tokens that the settings ask for.

        Raises:
            Unauthenticated: one is missing or bad; the message is the same whatever is wrong.
            Forbidden: the user lacks the claim.
            AccessUnavailable: the keys or accounts cannot be reached.
        """
        app = user = None
        if "app-check" in self._wanted:
            app = self._app_of(headers.get("X-Firebase-AppCheck", ""))
        if "id-token" in self._wanted:
            scheme, _, token = headers.get("Authorization", "").partition(" ")
            claims = self._claims_of(token.strip() if scheme.lower() == "bearer" else "")
            if not _has(claims, self._settings.access_claim):
                raise Forbidden("This user may not call this service. Ask whoever runs it.")
            user = str(claims["uid"])
        return Caller(address, user, app)

    def _claims_of(self, token: str) -> Mapping[str, Any]:
        self._check_form("id-token", token)
        from firebase_admin import auth
        from firebase_admin.exceptions import FirebaseError
        from google.auth.exceptions import GoogleAuthError

        try:
            claims: Mapping[str, Any] = auth.verify_id_token(
                token,
                app=self._firebase(),
                check_revoked=self._settings.access_check_revoked,
                clock_skew_seconds=CLOCK_SKEW,
            )
        except (auth.InvalidIdTokenError, auth.UserDisabledError, auth.UserNotFoundError, *_MALFORMED) as error:
            if isinstance(getattr(error, "cause", None), json.JSONDecodeError):
                raise AccessUnavailable("Google's keys for ID tokens are not JSON.") from error
            raise self._refusal("id-token", error) from None
        except (FirebaseError, GoogleAuthError) as error:
            raise AccessUnavailable("Google's keys for ID tokens, or the accounts, cannot be reached.") from error
        return claims

    def _app_of(self, token: str) -> str:
        self._check_form("app-check", token)
        from firebase_admin import app_check
        from jwt.exceptions import PyJWKClientError, PyJWKSetError

        try:
            claims = app_check.verify_token(token, app=self._firebase())
            # The library takes a token without an expiry or an app.
            if not isinstance(claims.get("exp"), int) or not claims.get("sub"):
                raise ValueError("sub or exp is missing")
        except (PyJWKClientError, PyJWKSetError, json.JSONDecodeError) as error:
            if "signing key that matches" in str(error):
                raise self._refusal("app-check", error) from None
            raise AccessUnavailable("Google's keys for App Check tokens cannot be reached.") from error
        except _MALFORMED as error:
            raise self._refusal("app-check", error) from None
        return str(claims["sub"])

    def _check_form(self, kind: str, token: str) -> None:
        if not _TOKEN.fullmatch(token):
            raise self._refusal(kind, ValueError("malformed") if token else None)

    def _refusal(self, kind: str, error: Exception | None) -> Unauthenticated:
        """Say the same whatever is wrong, so that nobody learns which part of a forged token was right."""
        said = str(error).lower()
        reason = next((reason for part, reason in _REASONS if part in said), "malformed") if error else "missing"
        expected = {
            "id-token": "a valid Firebase ID token in Authorization: Bearer TOKEN",
            "app-check": "a valid App Check token in X-Firebase-AppCheck",
        }
        message = f"Expected {' and '.join(expected[token] for token in self._wanted)}."
        return Unauthenticated(message, wanted=self._wanted, reason=f"{kind}: {reason}")

    def _firebase(self) -> Any:
        with self._lock:
            if self._app is None:
                self._app = self._start_firebase()
            return self._app

    def _start_firebase(self) -> Any:
        import firebase_admin
        from firebase_admin import app_check
        from google.auth.credentials import AnonymousCredentials

        # Public keys need no credentials; looking for some takes seconds where there are none.
        credential = None if self._settings.access_check_revoked else AnonymousCredentials()  # type: ignore[no-untyped-call]
        options = {"projectId": self._settings.project, "httpTimeout": LOOKUP_TIMEOUT}
        if os.environ.get("FIREBASE_AUTH_EMULATOR_HOST"):  # the settings let it pass: this is the Firebase emulator
            log("WARNING", "ID tokens are not verified: FIREBASE_AUTH_EMULATOR_HOST is set.")
        app = firebase_admin.initialize_app(credential, options, name=f"pointer-{uuid.uuid4().hex}")
        if "app-check" in self._wanted:
            # No option reaches this timeout, and its 30 seconds would be spent under a lock.
            app_check._get_app_check_service(app)._jwks_client.timeout = LOOKUP_TIMEOUT
        return app


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


def _is_open(request: Request) -> bool:
    rule = request.url_rule
    if rule is None:  # it will be answered with 404 or 405
        return True
    if request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
        return True  # a browser's preflight has no tokens
    return rule.endpoint.rpartition(".")[2] in OPEN


def _has(claims: Mapping[str, Any], wanted: str) -> bool:
    """Look for ``name``, which must not be false, or ``name=value``, which may be one of a list."""
    name, equals, value = wanted.partition("=")
    if not equals:
        return not name or bool(claims.get(name))
    held = claims.get(name, [])
    members = held if isinstance(held, list) else [held]
    return value in [member if isinstance(member, str) else json.dumps(member) for member in members]
