"""A stand-in for Cloud Storage with IAM, in front of the emulator, and for the two services that give tokens.

It reads accounts from tokens, roles and conditions from the commands of docs/deploy.md, and lets through to the
emulator what they allow. As Cloud Storage's documentation has it: creating takes storage.objects.create, and over an
object that is there storage.objects.delete besides; deleting takes that; reading and listing take get and list.
Permissions come before preconditions: whoever is refused learns nothing of what is there. Only a real bucket can show
that it is so.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.processes import ROOT

ROLES = {
    "roles/storage.objectViewer": {"get", "list"},
    "roles/storage.objectCreator": {"create"},
    "roles/storage.objectUser": {"get", "list", "create", "delete", "update"},
}
OBJECTS = "projects/_/buckets/{}/objects/"
SHOWN = """
gcloud() { for each in "$@"; do printf '%s\\037' "$each"; done; printf '\\036'; }
export PROJECT=my-pointer BUCKET=the-bucket SERVING=pointer-serving@my-pointer.iam.gserviceaccount.com
"""
SERVING = "pointer-serving@my-pointer.iam.gserviceaccount.com"
OPERATOR = "op@my-pointer.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(65537, 2048)


class Grant(NamedTuple):
    """A binding of a bucket's policy."""

    member: str
    role: str
    expression: str = ""

    def allows(self, permission: str, resource: str) -> bool:
        """Say whether it lets its member do something to an object, or to the bucket."""
        if permission not in ROLES[self.role]:
            return False
        if not self.expression:
            return True
        terms = [each.strip() for each in self.expression.split("||")]
        return any(_holds(term, resource) for term in terms)


def _holds(term: str, resource: str) -> bool:
    if found := re.fullmatch(r"resource\.name\.startsWith\('([^']+)'\)", term):
        return resource.startswith(found[1])
    found = re.fullmatch(r"resource\.name == '([^']+)'", term)
    assert found, term
    return resource == found[1]


def grants_of_the_docs(bucket: str, prefix: str) -> list[Grant]:
    """Run the commands of docs/deploy.md, step 3, with another gcloud, and return what they grant."""
    text = (ROOT / "docs/deploy.md").read_text()
    section = text[text.index("\n## 3. ") : text.index("\n## 4. ")]
    script = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    script = script.replace("objects/models/food", f"objects/{prefix}/food")
    shown = subprocess.run(["bash", "-c", SHOWN + script], capture_output=True, text=True, check=True).stdout
    grants = []
    for command in filter(None, shown.split("\x1e")):
        words = command.split("\x1f")[:-1]
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
        if "buckets" in words and "add-iam-policy-binding" in words:
            expression = options["condition"].partition("expression=")[2].replace("the-bucket", bucket)
            grants.append(Grant(options["member"].replace("group:operators@example.com", OPERATOR), options["role"],
                                " ".join(expression.split())))  # fmt: skip
    return [each._replace(member=each.member.removeprefix("serviceAccount:")) for each in grants]


class Iam(ThreadingHTTPServer):
    """Serves on the loopback interface.

    Args:
        emulator: the URL of the storage emulator.
        bucket: its bucket.
        grants: the bucket's policy.
    """

    daemon_threads = True

    def __init__(self, emulator: str, bucket: str, grants: list[Grant]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.emulator, self.bucket, self.grants = urlsplit(emulator).netloc, bucket, grants
        self.token_creators = {OPERATOR}
        """Who gets tokens of the function's account."""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def may(self, account: str, permission: str, name: str = "") -> bool:
        resource = OBJECTS.format(self.bucket) + name
        return any(each.member == account and each.allows(permission, resource) for each in self.grants)

    def key_file(self, folder: Path) -> Path:
        """Return credentials of the operator, as GOOGLE_APPLICATION_CREDENTIALS names them."""
        pem = KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account", "project_id": "my-pointer", "private_key_id": "1", "private_key": pem.decode(),
            "client_email": OPERATOR, "client_id": "1", "token_uri": f"{self.url}/token",
        }  # fmt: skip
        path = folder / "operator.json"
        path.write_text(json.dumps(account))
        return path


@contextmanager
def iam(emulator: str, bucket: str, grants: list[Grant]) -> Iterator[Iam]:
    with Iam(emulator, bucket, grants) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Iam

    def do_GET(self) -> None:
        self._storage()

    def do_DELETE(self) -> None:
        self._storage()

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        if path == "/token":
            assertion = parse_qs(self._body().decode())["assertion"][0].split(".")[1]
            account = json.loads(base64.urlsafe_b64decode(assertion + "=="))["iss"]
            self._answer(200, {"access_token": f"of {account}", "expires_in": 3600, "token_type": "Bearer"})
        elif found := re.fullmatch(r"/v1/projects/-/serviceAccounts/([^:]+):generateAccessToken", path):
            self._generate(found[1])
        else:
            self._storage()

    def _generate(self, account: str) -> None:
        """Give a token of another account, as the IAM credentials API does."""
        self._body()
        if self._account() not in self.server.token_creators:
            permission = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            self._answer(403, {"error": {"code": 403, "message": permission, "status": "PERMISSION_DENIED"}})
            return
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10)
        self._answer(200, {"accessToken": f"of {account}", "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _storage(self) -> None:
        body = self._body()
        account, (permission, name) = self._account(), self._wanted(body)
        needed = [permission]
        if permission == "create" and self._forward("GET", self._address(name), b"")[0] == 200:
            needed.append("delete")
        for each in needed:
            if not self.server.may(account, each, name):
                message = f"{account} does not have storage.objects.{each} access to the Google Cloud Storage object."
                self._answer(403, {"error": {"code": 403, "message": message}})
                return
        self._answer(*self._forward(self.command, self.path, body))

    def _wanted(self, body: bytes) -> tuple[str, str]:
        """Return the permission that a request needs, and its object."""
        parts = urlsplit(self.path)
        objects = f"/storage/v1/b/{self.server.bucket}/o"
        if parts.path == f"/upload{objects}":
            assert parse_qs(parts.query)["uploadType"] == ["multipart"]
            return "create", json.loads(body.split(b"\r\n\r\n", 2)[1].split(b"\r\n--")[0])["name"]
        if parts.path == objects:
            return "list", ""
        name = unquote(parts.path.removeprefix(f"{objects}/"))
        return ("delete" if self.command == "DELETE" else "get"), name

    def _address(self, name: str) -> str:
        return f"/storage/v1/b/{self.server.bucket}/o/{name.replace('/', '%2F')}"

    def _forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection(self.server.emulator, timeout=10)
        kept = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "range")}
        connection.request(method, path, body or None, kept)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        told = {
            name: value for name, value in answer.getheaders() if name.lower().startswith(("x-goog", "content-type"))
        }
        return answer.status, content, told

    def _account(self) -> str:
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer of ")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, body: bytes | dict[str, object], headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
