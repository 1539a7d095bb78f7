"""`Connection`: requests to Cloud Storage, with the credentials of wherever this runs.

On Cloud Run and Cloud Functions a plain request gets a token from the metadata server: google-auth would import
cryptography for that. Everywhere else google-auth finds the credentials.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
METADATA_HOST = "metadata.google.internal"
TOKEN_PATH = "computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105
RENEWED_BEFORE = 225.0
"""Seconds before a token ends from which on a new one is asked for: the metadata server has one by then."""
MAY_PASS = {429, 500, 502, 503, 504}
"""Answers of the metadata server after which it is asked again, as one that is just starting gives them."""
CONNECTIONS = 64
"""That are kept open to a host, at most: as many as reads at once."""

Authorize = Callable[[str, str, bool], Mapping[str, str]]
"""Method, address and whether a token was refused -> the headers to send."""


class Answer:
    """An answer, whose body is read at once or, in a stream, from `raw`."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.status_code: int = raw.status
        self.reason: str = raw.reason or ""
        self.headers: Any = raw.headers

    @property
    def text(self) -> str:
        """The body, as text."""
        return str(self.raw.data.decode("utf-8", "replace"))

    def json(self) -> Any:
        """Return what the body says. Raises ValueError where it is not JSON."""
        return json.loads(self.raw.data)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.raw.drain_conn()
            self.raw.release_conn()
        else:
            self.raw.close()


class Connection:
    """Kept connections and a token, made at first use; any thread may use them.

    Args:
        timeout: seconds to wait for a connection, and for each part of an answer.
        credentials: of google-auth; by default those of wherever this runs.
    """

    def __init__(self, timeout: float, credentials: Any = None) -> None:
        self._timeout = timeout
        self._credentials = credentials
        self._lock = threading.RLock()
        self._pools: dict[str | None, Any] = {}
        """By proxy."""
        self._pool_of: dict[tuple[str, str | None], Any] = {}
        """By scheme and host: looking through the environment for proxies takes longer than a small read."""
        self._authorize: Authorize | None = None

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            pools, self._pools, self._pool_of, self._authorize = self._pools, {}, {}, None
        for pool in pools.values():
            pool.clear()

    def request(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> Answer:
        """Send a request once, or once more where its token was refused.

        Raises:
            urllib3.exceptions.HTTPError: the connection failed.
            google.auth.exceptions.GoogleAuthError: there are no credentials, or they are refused.
            ConnectionError: the metadata server gives no token at the moment.
            ValueError: it gives none.
        """
        import urllib3

        address = f"{url}?{urlencode(query)}" if query else url
        options: dict[str, Any] = {
            "body": body,
            "preload_content": not stream,
            "decode_content": not stream,
            "redirect": False,
            "retries": False,
            "timeout": urllib3.Timeout(connect=timeout or self._timeout, read=timeout or self._timeout),
        }
        authorize = self._authorized()
        for refused in (False, True):
            sent = {**(headers or {}), **authorize(method, address, refused)}
            answer = Answer(self._pool(address).request(method, address, headers=sent, **options))
            if answer.status_code != HTTPStatus.UNAUTHORIZED or "Authorization" not in sent:
                break
            if not refused:
                answer.raw.drain_conn()
        return answer

    def _authorized(self) -> Authorize:
        with self._lock:
            if self._authorize is None:
                self._authorize = self._found_credentials()
            return self._authorize

    def _found_credentials(self) -> Authorize:
        if self._credentials is not None:
            return _GoogleAuth(self._pool, self._credentials)
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            return lambda method, address, refused: {}
        deployed = os.environ.get("K_SERVICE") and os.environ.get("FUNCTIONS_EMULATOR") != "true"
        if deployed and not os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            return _MetadataToken(self._pool, self._timeout)
        return _GoogleAuth(self._pool)

    def _pool(self, address: str) -> Any:
        """Return the connections to a host: straight, or through the proxy that the environment names."""
        import certifi
        import urllib3

        parts = urlsplit(address)
        host = parts.scheme, parts.hostname
        with self._lock:
            if host in self._pool_of:
                return self._pool_of[host]
            proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
            if proxy not in self._pools:
                authorities = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
                options: dict[str, Any] = {"maxsize": CONNECTIONS, "ca_certs": authorities or certifi.where()}
                self._pools[proxy] = (
                    urllib3.PoolManager(**options) if proxy is None else urllib3.ProxyManager(proxy, **options)
                )
            self._pool_of[host] = self._pools[proxy]
            return self._pool_of[host]


class _MetadataToken:
    """The token of the service account that the instance runs as."""

    def __init__(self, pool: Callable[[str], Any], timeout: float) -> None:
        self._pool, self._timeout = pool, timeout
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}
        self._until = 0.0

    def __call__(self, method: str, address: str, refused: bool) -> Mapping[str, str]:
        with self._lock:
            if refused or time.monotonic() >= self._until:
                self._ask()
            return self._headers

    def _ask(self) -> None:
        url = f"http://{os.environ.get('GCE_METADATA_HOST') or METADATA_HOST}/{TOKEN_PATH}"
        asked = time.monotonic()
        answer = self._pool(url).request(
            "GET", url, headers={"Metadata-Flavor": "Google"}, retries=False, timeout=self._timeout
        )
        if answer.status != HTTPStatus.OK:
            told = f"the metadata server answered {answer.status} when it was asked for a token"
            raise ConnectionError(told) if answer.status in MAY_PASS else ValueError(told)
        found = json.loads(answer.data)
        self._headers = {"Authorization": f"{found.get('token_type', 'Bearer')} {found['access_token']}"}
        self._until = asked + float(found["expires_in"]) - RENEWED_BEFORE


class _GoogleAuth:
    """Given credentials, or the default ones: a key file, `gcloud auth application-default login` and more."""

    def __init__(self, pool: Callable[[str], Any], credentials: Any = None) -> None:
        import google.auth
        from google.auth.transport.urllib3 import Request

        self._credentials: Any = credentials or google.auth.default(scopes=SCOPES)[0]
        self._request: Any = Request(pool("https://oauth2.googleapis.com"))  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def __call__(self, method: str, address: str, refused: bool) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        with self._lock:
            if refused:
                self._credentials.refresh(self._request)
            self._credentials.before_request(self._request, method, address, headers)
        return {("Authorization" if name.lower() == "authorization" else name): each for name, each in headers.items()}
