"""What the access settings ask for: claims, one token or both, users not revoked; and keys that cannot be had."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from firebase_admin import _token_gen, _user_mgt, app_check
from flask.testing import FlaskClient

from classifier.access import tokens
from classifier.endpoints.app import create_app
from classifier.settings import Settings
from tests.support.serving import FUNCTIONS, MODEL, closed_port, serve
from tests.support.tokens import (
    GOOD,
    NOW,
    OTHER,
    PROJECT,
    USER,
    Google,
    app_token,
    attested,
    bearer,
    good,
    google,
    id_token,
)


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Google]:
    """Google's place taken by a loopback server, for apps of this process."""
    with google() as answers:
        point_to(answers.url, monkeypatch)
        credentials = answers.environment(tmp_path / "google")["GOOGLE_APPLICATION_CREDENTIALS"]
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", credentials)
        yield answers


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_token_gen, "ID_TOKEN_CERT_URI", f"{url}/certs")
    monkeypatch.setattr(app_check._AppCheckService, "_JWKS_URL", f"{url}/jwks")
    monkeypatch.setattr(_user_mgt.UserManager, "ID_TOOLKIT_URL", f"{url}/accounts")


def client_for(published: Path, **changes: Any) -> FlaskClient:
    settings = Settings(**{"model_store": str(published), "model_name": MODEL, "project": PROJECT, **changes})
    return create_app(settings).test_client()


# Claims


@pytest.mark.parametrize(
    ("wanted", "claims", "status"),
    [
        ("member", {"member": True}, 200),
        ("member", {"member": "yes"}, 200),
        ("member", {"member": False}, 403),
        ("member", {"member": 0}, 403),
        ("member", {}, 403),
        ("role=editor", {"role": "editor"}, 200),
        ("role=editor", {"role": ["viewer", "editor"]}, 200),
        ("role=editor", {"role": "editors"}, 403),
        ("role=editor", {"role": {"editor": True}}, 403),
        ("role=editor", {"editor": True}, 403),
        ("role=null", {}, 403),
        ("email_verified=true", {"email_verified": True}, 200),
        ("email_verified=true", {"email_verified": False}, 403),
        ("level=3", {"level": 3}, 200),
        ("team=a=b", {"team": "a=b"}, 200),
    ],
)
def test_a_required_claim(published: Path, loopback: Google, wanted: str, claims: dict[str, Any], status: int) -> None:
    client = client_for(published, access="auth", access_claim=wanted)
    reply = client.get("/model", headers=bearer(id_token(**claims)))
    assert reply.status_code == status, reply.text
    if status == 403:
        assert reply.get_json(force=True)["type"] == "urn:pointer:problem:forbidden"
        assert "WWW-Authenticate" not in reply.headers and wanted not in reply.text


@pytest.mark.parametrize(
    ("rule", "headers", "challenge"),
    [("auth", bearer, "Bearer"), ("app-check", attested, "FirebaseAppCheck")],
)
def test_one_token_is_enough_where_one_is_asked_for(
    published: Path, loopback: Google, rule: str, headers: Callable[[str], dict[str, str]], challenge: str
) -> None:
    client = client_for(published, access=rule)
    make, other = (id_token, app_token) if rule == "auth" else (app_token, id_token)
    assert client.get("/model", headers=headers(make())).status_code == 200
    reply = client.get("/model", headers=headers(other()))
    assert reply.status_code == 401
    assert reply.headers.getlist("WWW-Authenticate")[0].startswith(f'{challenge} realm="pointer"')
    assert len(reply.headers.getlist("WWW-Authenticate")) == 1


# Revocation


def test_revoked_disabled_and_deleted_users_are_refused(published: Path, loopback: Google) -> None:
    client = client_for(published, access="auth", access_check_revoked=True)

    def status(account: dict[str, Any] | None) -> int:
        loopback.account = account
        return client.get("/model", headers=bearer(id_token())).status_code

    assert status({"localId": USER, "validSince": str(NOW - 7200)}) == 200
    assert status({"localId": USER, "validSince": str(NOW + 7200)}) == 401
    assert status({"localId": USER, "disabled": True}) == 401
    assert status(None) == 401
    asked = loopback.asked["accounts:lookup"]
    assert asked == 4
    assert client.get("/model", headers=bearer(id_token(OTHER))).status_code == 401
    assert loopback.asked["accounts:lookup"] == asked, "a forged token is not worth a question"


def test_unreachable_accounts_are_not_a_refusal(
    published: Path, loopback: Google, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_user_mgt.UserManager, "ID_TOOLKIT_URL", f"http://127.0.0.1:{closed_port()}")
    client = client_for(published, access="auth", access_check_revoked=True)
    unavailable(client.get("/model", headers=bearer(id_token())), capsys)


# Keys that cannot be had


def unavailable(reply: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert reply.status_code == 503, reply.text
    assert reply.get_json(force=True)["type"] == "urn:pointer:problem:access-unavailable"
    entry = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert entry["severity"] == "ERROR" and entry["slug"] == "access-unavailable"


@pytest.mark.parametrize("rule", ["auth", "app-check"])
def test_unreachable_keys_are_neither_a_refusal_nor_an_open_door(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    point_to(f"http://127.0.0.1:{closed_port()}", monkeypatch)
    client = client_for(published, access=rule)
    for key in (GOOD, OTHER):
        unavailable(client.get("/model", headers={**bearer(id_token(key)), **attested(app_token(key))}), capsys)
    assert client.get("/model", headers={**bearer("garbage"), **attested("garbage")}).status_code == 401


@pytest.mark.parametrize("rule", ["auth", "app-check"])
def test_a_key_server_that_does_not_answer(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    monkeypatch.setattr(tokens, "LOOKUP_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        client = client_for(published, access=rule)
        with ThreadPoolExecutor(1) as thread:  # the libraries' own patience is 30 seconds and more
            unavailable(thread.submit(client.get, "/model", headers=good()).result(20), capsys)


@pytest.mark.parametrize("rule", ["auth", "app-check"])
def test_keys_that_are_not_keys_and_then_are(
    published: Path, loopback: Google, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    loopback.broken = True
    client = client_for(published, access=rule)
    unavailable(client.get("/model", headers=good()), capsys)
    loopback.broken = False
    assert client.get("/model", headers=good()).status_code == 200


# Emulators


def test_a_server_with_the_auth_emulator_does_not_start_outside_the_emulators(tmp_path: Path) -> None:
    env = {"ACCESS": "auth", "GCLOUD_PROJECT": PROJECT, "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9099"}
    with (
        pytest.raises(AssertionError, match="Expected FIREBASE_AUTH_EMULATOR_HOST to be empty outside"),
        serve(tmp_path, tmp_path / "server", **env),
    ):
        pytest.fail("it serves, and takes tokens that nobody signed")


def test_unsigned_tokens_are_taken_in_the_emulators_and_that_is_logged(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {
        "MODEL_STORE": str(published), "ACCESS": "auth", "GCLOUD_PROJECT": PROJECT,
        "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9099", "FUNCTIONS_EMULATOR": "true",
    }  # fmt: skip
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", env["FIREBASE_AUTH_EMULATOR_HOST"])
    client = create_app(Settings.from_env(env)).test_client()
    assert client.get("/model", headers=bearer(id_token(None, alg="none"))).status_code == 200
    assert "ID tokens are not verified" in capsys.readouterr().out
    assert client.get("/model").status_code == 401


# What is written down


def test_the_contract_names_each_refusal_with_its_headers() -> None:
    document = yaml.safe_load((FUNCTIONS / "openapi.yaml").read_text())
    for operation in (document["paths"]["/"]["post"], document["paths"]["/model"]["get"]):
        assert {"401", "403", "429", "503"} <= set(operation["responses"])
        assert "security" not in operation
    assert all(document["paths"][path]["get"]["security"] == [] for path in ("/", "/healthz", "/openapi.yaml"))
    responses = document["components"]["responses"]
    assert {"WWW-Authenticate", "RateLimit", "RateLimit-Policy"} <= set(responses["Unauthenticated"]["headers"])
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(responses["RateLimited"]["headers"])


# What is loaded


def test_without_tokens_and_limits_nothing_is_loaded_for_them(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from classifier.endpoints.app import create_app\n"
        "from classifier.settings import Settings\n"
        "client = create_app(Settings(model_store='none')).test_client()\n"
        "assert client.get('/model').status_code == 503\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(FUNCTIONS)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "flask" in modules
    assert not {"firebase_admin", "jwt", "limits", "redis", "cryptography"} & modules
