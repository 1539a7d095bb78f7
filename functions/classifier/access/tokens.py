"""Firebase's ID tokens and App Check tokens: read from a request, verified, refused in words."""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import Headers

from classifier.access.caller import Caller
from classifier.errors import AccessUnavailable, Forbidden, Unauthenticated
from classifier.logs import log
from classifier.settings import Settings

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


def _has(claims: Mapping[str, Any], wanted: str) -> bool:
    """Look for ``name``, which must not be false, or ``name=value``, which may be one of a list."""
    name, equals, value = wanted.partition("=")
    if not equals:
        return not name or bool(claims.get(name))
    held = claims.get(name, [])
    members = held if isinstance(held, list) else [held]
    return value in [member if isinstance(member, str) else json.dumps(member) for member in members]
