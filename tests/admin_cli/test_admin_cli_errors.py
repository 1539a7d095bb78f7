"""How the command line ends when something is wrong: exit codes, and one line that says what to do."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.commands import Cli, cli_fixture, photo_fixture, process  # noqa: F401  # fixtures
from tests.support.serving import closed_port, damage


@pytest.fixture
def promoted(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> Path:
    """The store, with v1 and v2, of which v2 was promoted after v1."""
    for number in (1, 2):
        cli("publish", tiny_bundle, "--again").well()
        cli("promote", f"v{number}").well()
    return tmp_path / "store"


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish"],
        ["unpromote"],
        ["list", "--nope"],
        ["promote"],
        ["predict", "photo.png", "--top-k", "0"],
        ["predict", "photo.png", "--top-k", "many"],
        ["predict", "photo.png", "--label", "red"],
        ["predict", "photo.png", "--gradcam", "out.tif"],
        ["predict", "photo.png", "--url", "ftp://127.0.0.1"],
        ["list", "--store", "s3://bucket"],
        ["list", "--store", "gs://"],
        ["list", "--store", "gs:/bucket"],
        ["show", "--store", "gs//bucket"],
        ["promote", "v1", "--store", "gcs://bucket"],
        ["list", "--limit", "0"],
        ["list", "--model", "../food"],
    ],
)
def test_usage_is_2(cli: Cli, photo: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(photo.parent)
    cli(*arguments).failed(2)
    assert sorted(path.name for path in photo.parent.iterdir()) == ["photo.png"]


def test_usage_errors_say_where_help_is() -> None:
    assert process("promote").failed(2) == "Missing argument 'version'. `admin_cli promote --help` explains."
    assert process("unpromote").failed(2).endswith("`admin_cli --help` explains.")


def test_an_overlay_that_cannot_be_written_is_2(cli: Cli, promoted: Path, photo: Path) -> None:
    target = photo.parent / "no/such/folder/out.png"
    assert f"{target}: No such file" in cli("predict", photo, "--gradcam", target).failed(2)


def test_a_setting_that_cannot_be_used_is_2(cli: Cli, photo: Path) -> None:
    assert "MAX_IMAGE_BYTES" in cli("predict", photo, MAX_IMAGE_BYTES="many").failed(2)


def test_not_found_is_3(cli: Cli, tiny_bundle: Path, tmp_path: Path, photo: Path) -> None:
    assert "`trainer train`" in cli("publish", tmp_path / "nothing").failed(3)
    reading = (["list"], ["history"], ["show"], ["show", "v1"], ["verify", "v1"], ["promote", "v1"], ["rollback"],
               ["predict", photo], ["promote", "production"], ["status"], ["status", "--compact"],
               ["predict", photo, "--version", "canary"], ["compare", "canary", "v1"], ["canary", "start", "v1"],
               ["canary", "watch", "--once"], ["canary", "promote"], ["canary", "abort"], ["shadow", "start", "v1"],
               ["shadow", "report"], ["shadow", "stop"])  # fmt: skip
    for command in reading:
        assert "the folder does not exist. `admin_cli publish RUN` makes it" in cli(*command).failed(3)
        assert not (tmp_path / "store").exists()
    cli("publish", tiny_bundle, "--again").well()
    assert "admin_cli promote v1" in cli("show").failed(3)
    for command in reading:
        message = cli(*command, MODEL_NAME="soups").failed(3)
        assert message == f"Expected one of the models food of {tmp_path / 'store'}; received 'soups'."
    for command in (["show"], ["verify"], ["promote"]):
        assert "Expected one of v1; received 'v9'" in cli(*command, "v9").failed(3)
    assert str(tmp_path / "none.jpg") in cli("predict", tmp_path / "none.jpg").failed(3)
    assert process("show", "v9", MODEL_STORE=tmp_path / "store").failed(3)


def test_a_bucket_that_does_not_exist_is_3(cli: Cli, emulator: str) -> None:
    message = cli("list", MODEL_STORE="gs://no-such-bucket/models", STORAGE_EMULATOR_HOST=emulator).failed(3)
    assert "there is no bucket 'no-such-bucket'" in message


def test_conflict_is_4(cli: Cli, promoted: Path) -> None:
    assert "Expected production to serve v1; it serves v2" in cli("promote", "v1", "--expect", "v1").failed(4)
    assert process("promote", "v1", "--expect", "v1", MODEL_STORE=promoted).failed(4)
    assert len(cli("history", "--json").json()) == 2


def test_refused_is_5(cli: Cli, promoted: Path, tiny_bundle: Path) -> None:
    assert "Expected one of v1 to roll back to" in cli("rollback", "--to", "v2").failed(5)
    cli("rollback").well()
    assert "there is none" in cli("rollback").failed(5)
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    manifest["golden"][3]["probabilities"] = [0.7, 0.1, 0.1, 0.1]
    (tiny_bundle / "manifest.json").write_text(json.dumps(manifest))
    # A process: LiteRT speaks of itself once in each, on the stream of the error.
    message = process("publish", tiny_bundle, MODEL_STORE=promoted).failed(5)
    assert "golden/3.png does not repeat: expected 'red' with probability 0.1000 ± 0.01; found 0.99" in message
    assert [each["version"] for each in cli("list", "--all", "--json").json()] == ["v1", "v2"]


def test_a_corrupted_file_is_5_and_is_named(cli: Cli, promoted: Path, photo: Path) -> None:
    expected = cli("show", "--json").json()["files"]["model.tflite"]["sha256"]
    found = hashlib.sha256(damage(promoted, "v2").read_bytes()).hexdigest()
    for command in (["verify", "v2"], ["predict", photo], ["rollback"], ["promote", "v2"]):
        done = cli(*command)
        if command == ["rollback"]:
            continue  # what serves already is not promoted
        message = done.failed(5)
        assert all(part in message for part in ("v2", "model.tflite", expected, found, str(promoted))), message
    assert len(cli("history", "--json").json()) == 3


def test_a_promoted_version_that_is_gone_is_5(cli: Cli, promoted: Path) -> None:
    """`make run` trains the sample model where the code is 3, and must not do so over a store that was damaged."""
    shutil.rmtree(promoted / "food/versions/v2")
    message = cli("show").failed(5)
    assert "names v2" in message and str(promoted) in message
    cli("show", "v2").failed(3)


def test_a_promoted_manifest_that_is_another_is_5(cli: Cli, promoted: Path) -> None:
    manifest = promoted / "food/versions/v2/manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert "which the pointer records" in cli("show").failed(5)


def test_out_of_reach_is_6(cli: Cli, tmp_path: Path, photo: Path) -> None:
    nobody = f"http://127.0.0.1:{closed_port()}"
    assert f"{nobody} cannot be reached" in cli("predict", photo, "--url", nobody).failed(6)
    assert "is not a folder" in cli("list", MODEL_STORE=photo).failed(6)
    message = process("list", MODEL_STORE="gs://some-bucket", STORAGE_EMULATOR_HOST=nobody).failed(6)
    assert "gs://some-bucket cannot be reached" in message


WITHOUT_OVERLAY = {"label": "a", "confidence": 1.0, "predictions": [{"label": "a", "confidence": 1.0}]}


class _AnyServer(BaseHTTPRequestHandler):
    """Answers a POST to /STATUS/... with that status and a page; to /bare/... with a prediction and no overlay."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        asked = self.path.split("/")[1]
        self.send_response(200 if asked == "bare" else int(asked))
        self.end_headers()
        self.wfile.write(json.dumps(WITHOUT_OVERLAY).encode() if asked == "bare" else b"<!doctype html>")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def any_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _AnyServer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 2), (404, 2), (500, 1), (503, 6)])
def test_a_url_where_something_else_answers(cli: Cli, photo: Path, any_server: str, status: int, code: int) -> None:
    message = cli("predict", photo, "--url", f"{any_server}/{status}").failed(code)
    assert f"received status {status} and b'<!doctype html>'" in message


def test_an_overlay_that_was_asked_for_and_never_came_is_1(cli: Cli, photo: Path, any_server: str) -> None:
    out = photo.parent / "out.png"
    assert "sent none" in cli("predict", photo, "--gradcam", out, "--url", f"{any_server}/bare").failed(1)
    assert not out.exists()


def test_hints_name_the_model_and_the_store_that_were_typed(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> None:
    there = ("--model", "dogs", f"--store={tmp_path / 'a store'}")
    asked = f"--model dogs --store '{tmp_path / 'a store'}'`"
    cli("publish", tiny_bundle, *there).well()
    assert f"`admin_cli promote v1 {asked}" in cli("show", *there).failed(3)
    assert f"`admin_cli canary start VERSION --percent 10 {asked}" in cli("canary", "abort", *there).failed(3)
    assert "`admin_cli promote --help`" in cli("promote", "--wrong", *there).failed(2)
    doctor = cli("doctor", *there)
    assert "--modeldogs" in "".join(doctor.out.split()) and doctor.code == 5
    cli("publish", tiny_bundle, "--again").well()
    assert "`admin_cli promote v1`" in cli("show").failed(3)  # MODEL_NAME and MODEL_STORE are there the next time too
