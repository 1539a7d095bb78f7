"""`doctor --as`: what the function's account may do, over HTTP against a stand-in for Cloud Storage with IAM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth import iam as google_iam

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage import json_api
from classifier.storage.json_api import JsonApiStore
from tests.conftest import BUCKET
from tests.support.commands import Cli, cli_fixture  # noqa: F401  # fixture
from tests.support.iam import OPERATOR, SERVING, Grant, Iam, grants_of_the_docs, iam
from tests.support.serving import MODEL

Found = dict[tuple[str, str], list[str]]


@pytest.fixture(name="filled")
def filled_fixture(json_api_store: JsonApiStore, tiny_bundle: Path) -> JsonApiStore:
    registry = Registry(json_api_store, MODEL)
    registry.publish(tiny_bundle, who="tester", replay=golden.replay)
    registry.promote("v1", who="tester", reason="", replay=golden.replay)
    return json_api_store


@pytest.fixture(name="cloud")
def cloud_fixture(
    emulator: str, filled: JsonApiStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Iam]:
    """Storage with the roles of docs/deploy.md; this process has the operator's credentials and asks there alone."""
    grants = grants_of_the_docs(BUCKET, filled.url.removeprefix(f"gs://{BUCKET}/"))
    with iam(emulator, BUCKET, grants) as server:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        monkeypatch.setattr(json_api, "PUBLIC", server.url)
        # The program that is tested has no setting that could name another server for Google's tokens.
        monkeypatch.setattr(
            google_iam, "_IAM_ENDPOINT", f"{server.url}/v1/projects/-/serviceAccounts/{{}}:generateAccessToken"
        )
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(server.key_file(tmp_path)))
        yield server


def doctor(cli: Cli, store: JsonApiStore, *, code: int) -> Found:
    """What it finds of the account, by verdict and by what was looked at."""
    done = cli("doctor", "--as", SERVING, "--json", MODEL_STORE=store.url)
    assert done.code == code, done
    found: Found = {}
    for each in json.loads(done.out):
        if each["what"] == "account" or each["what"].startswith("may"):
            assert bool(each["remedy"]) == (each["verdict"] != "ok"), each
            found.setdefault((each["verdict"], each["what"]), []).append(each["found"])
    return found


def objects(emulator: str, store: JsonApiStore) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", emulator)
        other = JsonApiStore(BUCKET, store.url.removeprefix(f"gs://{BUCKET}/"))
        return list(other.list())


def test_the_docs_grant_what_their_table_says(cloud: Iam) -> None:
    own = [(each.role, each.expression.count("startsWith")) for each in cloud.grants if each.member == SERVING]
    assert own == [("roles/storage.objectViewer", 0), ("roles/storage.objectCreator", 2)]
    assert len(cloud.grants) == 6


def test_an_account_as_the_docs_make_it(cli: Cli, cloud: Iam, filled: JsonApiStore, emulator: str) -> None:
    before = objects(emulator, filled)
    assert doctor(cli, filled, code=0) == {
        ("ok", "may read"): ["pointer and versions"],
        ("ok", "may create"): ["statistics, under stats/", "corrections, under feedback/"],
        ("ok", "may not"): [
            "move the pointer", "publish versions", "delete versions", "delete statistics", "delete corrections",
        ],
    }  # fmt: skip
    assert objects(emulator, filled) == before


def test_an_account_that_may_do_everything_changes_nothing_and_is_told(
    cli: Cli, cloud: Iam, filled: JsonApiStore, emulator: str
) -> None:
    before = objects(emulator, filled)
    cloud.grants.append(Grant(SERVING, "roles/storage.objectUser"))
    assert doctor(cli, filled, code=5)["wrong", "may not"] == [
        "move the pointer, but is let", "publish versions, but is let", "delete versions, but is let",
        "delete statistics, but is let", "delete corrections, but is let",
    ]  # fmt: skip
    assert objects(emulator, filled) == before
    said = cli("doctor", "--as", SERVING, MODEL_STORE=filled.url)
    assert max(map(len, said.out.splitlines())) <= 80
    assert "Something is wrong: may not." in said.err


def test_a_role_without_its_condition_lets_it_publish(cli: Cli, cloud: Iam, filled: JsonApiStore) -> None:
    cloud.grants.append(Grant(SERVING, "roles/storage.objectCreator"))
    found = doctor(cli, filled, code=5)
    # The pointer is there already, and to replace it takes more.
    assert found["wrong", "may not"] == ["publish versions, but is let"]
    assert len(found["ok", "may not"]) == 4


@pytest.mark.parametrize(
    ("role", "wrong"),
    [
        ("roles/storage.objectViewer", {("wrong", "may read"): [f"not {MODEL}/channels.json"]}),
        (
            "roles/storage.objectCreator",
            {
                ("wrong", "may create"): [
                    "nothing under stats/: no statistics arrive",
                    "nothing under feedback/: no corrections arrive",
                ]
            },
        ),
    ],
)
def test_a_role_that_is_missing(cli: Cli, cloud: Iam, filled: JsonApiStore, role: str, wrong: Found) -> None:
    cloud.grants[:] = [each for each in cloud.grants if (each.member, each.role) != (SERVING, role)]
    found = doctor(cli, filled, code=5)
    assert {key: value for key, value in found.items() if key[0] == "wrong"} == wrong


def test_whoever_may_not_act_as_the_account_is_told(cli: Cli, cloud: Iam, filled: JsonApiStore) -> None:
    cloud.token_creators.clear()
    ((key, (told,)),) = doctor(cli, filled, code=5).items()
    assert key == ("wrong", "account")
    assert told.startswith(f"you cannot act as {SERVING}: Permission 'iam.serviceAccounts.getAccessToken' denied")


def test_a_store_in_which_something_is_wrong_is_not_tried(cli: Cli, cloud: Iam, filled: JsonApiStore) -> None:
    cloud.grants[:] = [each for each in cloud.grants if (each.member, each.role[-4:]) != (OPERATOR, "User")]
    done = cli("doctor", "--as", SERVING, "--json", MODEL_STORE=filled.url)
    found = {each["what"]: each for each in json.loads(done.out)}
    assert found["store"]["verdict"] == "wrong"
    assert "does not allow that: 403" in found["store"]["found"]
    assert (found["account"]["verdict"], found["account"]["found"]) == ("look", f"{SERVING} was not tried")


def test_what_cannot_be_tried_is_told_before_anything_is(cli: Cli, filled: JsonApiStore, tmp_path: Path) -> None:
    assert "the function's account; received 'kim'" in cli("doctor", "--as", "kim", MODEL_STORE=filled.url).failed(2)
    assert "STORAGE_EMULATOR_HOST" in cli("doctor", "--as", SERVING, MODEL_STORE=filled.url).failed(2)
    assert "Expected a store in Cloud Storage" in cli("doctor", "--as", SERVING, MODEL_STORE=tmp_path).failed(2)
