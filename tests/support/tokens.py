"""Really signed Firebase tokens, and loopback servers in the place of Google's: keys, OAuth tokens and accounts."""

from __future__ import annotations

import datetime
import http.server
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

PROJECT = "demo-pointer"
PROJECT_NUMBER = "123456789012"
KEY_ID = "key-1"
USER = "ana"
APP = "1:123456789012:web:abcdef"
NOW = int(time.time())

# Loaded by Python itself in every process of the server, so that the program that is tested stays as it deploys: no
# setting of it can name another server for Google's keys.
REDIRECT = """
import os
from firebase_admin import _token_gen, _user_mgt, app_check

google = os.environ["LOOPBACK_GOOGLE"]
_token_gen.ID_TOKEN_CERT_URI = google + "/certs"
app_check._AppCheckService._JWKS_URL = google + "/jwks"
_user_mgt.UserManager.ID_TOOLKIT_URL = google + "/accounts"
"""


def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


GOOD, OTHER = private_key(), private_key()


def id_token(key: Any = GOOD, *, alg: str = "RS256", kid: str | None = KEY_ID, **claims: Any) -> str:
    """An ID token of `USER` of `PROJECT`, or one with other claims; None leaves a claim out."""
    now = int(time.time())
    return _signed(
        {
            "iss": f"https://securetoken.google.com/{PROJECT}",
            "aud": PROJECT,
            "sub": USER,
            "user_id": USER,
            "auth_time": now - 60,
            "iat": now - 60,
            "exp": now + 600,
            **claims,
        },
        key, alg, kid,
    )  # fmt: skip


def app_token(key: Any = GOOD, *, alg: str = "RS256", kid: str | None = KEY_ID, **claims: Any) -> str:
    """An App Check token of `APP`, or one with other claims."""
    now = int(time.time())
    return _signed(
        {
            "iss": f"https://firebaseappcheck.googleapis.com/{PROJECT_NUMBER}",
            "aud": [f"projects/{PROJECT_NUMBER}", f"projects/{PROJECT}"],
            "sub": APP,
            "iat": now - 60,
            "exp": now + 600,
            **claims,
        },
        key, alg, kid,
    )  # fmt: skip


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def attested(token: str) -> dict[str, str]:
    return {"X-Firebase-AppCheck": token}


def good() -> dict[str, str]:
    return {**bearer(id_token()), **attested(app_token())}


class Google:
    """What stands in for Google: which answers it gives can be changed while it runs."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.account: dict[str, Any] | None = {"localId": USER, "validSince": "0"}
        self.broken = False
        self.url = ""

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment of a server that asks here; ``folder`` is for files that it loads."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sitecustomize.py").write_text(REDIRECT)
        account = {
            "type": "service_account",
            "project_id": PROJECT,
            "client_email": f"pointer@{PROJECT}.iam.gserviceaccount.com",
            "private_key_id": "1",
            "private_key": _pem(GOOD),
            "token_uri": f"{self.url}/oauth",
        }
        (folder / "service-account.json").write_text(json.dumps(account))
        return {
            "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "LOOPBACK_GOOGLE": self.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "service-account.json"),
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def answer(self, path: str) -> dict[str, Any]:
        if path.endswith("/certs"):
            return {KEY_ID: _certificate(GOOD)}
        if path.endswith("/jwks"):
            return {"keys": [_jwk(GOOD)]}
        if path.endswith("/oauth"):
            return {"access_token": "opaque", "expires_in": 3600, "token_type": "Bearer"}
        return {"users": [self.account]} if self.account else {}


@contextmanager
def google() -> Iterator[Google]:
    """Serve on the loopback interface."""
    answers = Google()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answers.asked[self.path.rpartition("/")[2]] += 1
            body = b"<html>" if answers.broken else json.dumps(answers.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", "no-store" if answers.broken else "public, max-age=19000")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    answers.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _signed(claims: dict[str, Any], key: Any, alg: str, kid: str | None) -> str:
    headers = {"kid": kid} if kid is not None else {}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, alg, headers=headers)


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _certificate(key: rsa.RSAPrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _jwk(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": KEY_ID, "use": "sig"}
