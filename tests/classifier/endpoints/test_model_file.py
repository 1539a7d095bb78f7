"""The model's file for devices: in parts, conditional, verified, held once, and the same numbers as the server's."""

from __future__ import annotations

import base64
import dataclasses
import gc
import hashlib
import json
import re
import shutil
import subprocess
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from classifier.endpoints import model
from classifier.endpoints.app import create_app
from classifier.photo import preprocessing
from classifier.serving.instance import Instance
from classifier.serving.model import Model
from classifier.settings import Settings
from classifier.storage.local import LocalStore
from tests.support.serving import FUNCTIONS, MODEL, Serving, copy_store, damage, photo_bytes, publish, serve

PHOTO = photo_bytes()
PART = 1000
ON_DEVICE = FUNCTIONS.parent / "docs/on-device.md"


@pytest.fixture(scope="module")
def served(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serve(published, tmp_path_factory.mktemp("server"), CORS_ORIGINS="https://a.example") as serving:
        yield serving


def settings_of(published: Path) -> Settings:
    return Settings(model_store=str(published), model_name=MODEL, pointer_ttl=0)


def client_of(server: Instance) -> FlaskClient:
    return create_app(server.settings, server).test_client()


@pytest.fixture
def client(published: Path) -> FlaskClient:
    """A client of a server that has loaded nothing."""
    return client_of(Instance(settings_of(published)))


@pytest.fixture(scope="module")
def content(published: Path) -> bytes:
    return (published / MODEL / "versions/v1/model.tflite").read_bytes()


@pytest.fixture(scope="module")
def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# On a device


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_what_is_downloaded_in_parts_gives_the_servers_probabilities(served: Serving, prefix: str) -> None:
    described = served.get(f"{prefix}/model").json()
    file, spec = described["file"], described["input"]
    downloaded = bytearray()
    while len(downloaded) < file["bytes"]:
        asked = {"Range": f"bytes={len(downloaded)}-{len(downloaded) + PART - 1}", "If-Match": f'"{file["sha256"]}"'}
        part = served.get(f"{prefix}/{file['url']}", headers=asked)
        assert part.status_code == 206 and 0 < len(part.content) <= PART
        downloaded += part.content
    assert hashlib.sha256(downloaded).hexdigest() == file["sha256"]
    model = Model(bytes(downloaded))
    decoded = preprocessing.decode(PHOTO, width=spec["width"], height=spec["height"])
    output = model.run(decoded.array(spec["width"], spec["height"], spec["resize"]))
    reply = served.post(f"{prefix}/?top_k=100", files={"image": PHOTO}).json()
    told = {one["label"]: one["confidence"] for one in reply["predictions"]}
    for label, probability in zip(described["labels"], output.probabilities, strict=True):
        assert told[label] == pytest.approx(float(probability), abs=1e-6)
    tensors = described["signature"]
    assert tensors["inputs"]["image"]["shape"] == [1, model.height, model.width, 3]
    assert tensors["outputs"]["probabilities"]["shape"] == [1, model.classes]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node, which nothing else of `make test` does")
def test_the_javascript_of_the_docs_downloads_verifies_and_sees_updates(
    served: Serving, tmp_path: Path, content: bytes
) -> None:
    code = next(block for block in re.findall(r"```js\n(.*?)```", ON_DEVICE.read_text(), re.S) if "update(api" in block)
    (tmp_path / "update.mjs").write_text(code.replace("8 * 2 ** 20", str(PART)))
    (tmp_path / "run.mjs").write_text(
        'import { writeFileSync } from "node:fs";\n'
        'import { update } from "./update.mjs";\n'
        "const first = await update(process.argv[2]);\n"
        'writeFileSync("downloaded", first.content);\n'
        "const again = await update(process.argv[2], first);\n"
        "console.log(JSON.stringify({ version: first.model.version, same: first === again }));\n"
    )
    for api in (f"{served.url}/", f"{served.url}/api/"):
        done = subprocess.run(
            ["node", "run.mjs", api], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"version": "v1", "same": True}
        assert (tmp_path / "downloaded").read_bytes() == content


def test_a_page_of_another_origin_may_read_what_it_needs(served: Serving) -> None:
    page = {"Origin": "https://a.example"}
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range, if-match"}
    preflight = served.ask("OPTIONS", "/model/file", headers={**page, **asked})
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
    assert "range" in allowed and "if-match" in allowed
    reply = served.get("/model/file", headers={**page, "Range": "bytes=0-9"})
    exposed = {name.strip() for name in reply.headers["Access-Control-Expose-Headers"].split(",")}
    assert {"Accept-Ranges", "Content-Range", "ETag", "Repr-Digest", "X-Pointer-Version"} <= exposed


# HTTP


def test_the_whole_file(client: FlaskClient, content: bytes, sha256: str) -> None:
    reply = client.get("/model/file")
    assert (reply.status_code, reply.data) == (200, content)
    assert reply.headers["Content-Length"] == str(len(content))
    assert reply.headers["ETag"] == f'"{sha256}"'
    assert reply.headers["Content-Disposition"] == 'attachment; filename="food-v1-float32.tflite"'
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert reply.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert (reply.headers["X-Pointer-Version"], reply.headers["Cache-Control"]) == ("v1", "no-cache")
    head = client.head("/model/file", headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Repr-Digest", "Accept-Ranges", "Content-Disposition"):
        assert head.headers[name] == reply.headers[name]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=100-", 100, -1),
        ("bytes=-5", -5, -1),
        ("bytes=-99999999", 0, -1),
        ("bytes=100-99999999", 100, -1),
    ],
)
def test_one_range(client: FlaskClient, content: bytes, asked: str, first: int, last: int) -> None:
    first, last = first % len(content), last % len(content)
    reply = client.get("/model/file", headers={"Range": asked})
    assert (reply.status_code, reply.data) == (206, content[first : last + 1])
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{len(content)}"
    assert reply.headers["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=a-b", "bytes=", "items=0-5", "bytes=0-1,5-6", "bytes=--5", "nonsense"]
)
def test_a_range_that_is_not_understood_is_ignored(client: FlaskClient, content: bytes, asked: str) -> None:
    reply = client.get("/model/file", headers={"Range": asked})
    assert (reply.status_code, reply.data) == (200, content)


@pytest.mark.parametrize("far", [0, 1, 10**9])
def test_a_range_behind_the_end(client: FlaskClient, content: bytes, far: int) -> None:
    reply = client.get("/model/file", headers={"Range": f"bytes={len(content) + far}-"})
    assert reply.status_code == 416
    assert reply.headers["Content-Range"] == f"bytes */{len(content)}"


def test_conditions(client: FlaskClient, content: bytes, sha256: str) -> None:
    def status(**headers: str) -> int:
        reply = client.get("/model/file", headers={name.replace("_", "-"): value for name, value in headers.items()})
        assert (reply.data == b"") == (reply.status_code == 304)
        reply.close()  # as a server does: until then it counts as a download under way
        return reply.status_code

    tag, other, part = f'"{sha256}"', f'"{"0" * 64}"', "bytes=0-9"
    for known in (tag, f"W/{tag}", f"{other}, {tag}", "*"):
        assert status(If_None_Match=known) == status(If_None_Match=known, Range=part) == 304
    assert status(If_None_Match=other) == 200
    assert status(If_Match=tag) == status(If_Match=f"{other}, {tag}") == status(If_Match="*") == 200
    assert status(If_Match=other) == status(If_Match=f"W/{tag}") == 412
    assert status(If_Match=other, If_None_Match=tag) == 412
    assert status(If_Match=tag, Range=part) == status(If_Range=tag, Range=part) == 206
    for changed in (other, f"W/{tag}", "Sat, 31 Jan 2026 12:00:00 GMT"):
        assert status(If_Range=changed, Range=part) == 200


def test_the_description_is_conditional_too(client: FlaskClient) -> None:
    tag = client.get("/model").headers["ETag"]
    assert client.get("/model").headers["ETag"] == tag, "it changes though nothing has"
    reply = client.get("/model", headers={"If-None-Match": tag})
    assert (reply.status_code, reply.data, reply.headers["ETag"]) == (304, b"", tag)


def test_callers_with_tokens_have_replies_of_their_own(published: Path) -> None:
    """No shared cache may keep what only some may read."""
    for access, expected in (("public", "no-cache"), ("auth", "private, no-cache")):
        settings = dataclasses.replace(settings_of(published), access=access, project="demo-pointer")
        app = create_app(settings)
        app.before_request_funcs[None] = app.before_request_funcs[None][:1]  # without the gate
        for path in ("/model", "/model/file"):
            assert app.test_client().get(path).headers["Cache-Control"] == expected


def test_a_large_file_comes_in_parts_or_without_its_length(
    client: FlaskClient, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "LARGEST_REPLY", 700)
    monkeypatch.setattr(model, "BLOCK", 256)
    whole = client.get("/model/file")
    assert whole.data == content and "Content-Length" not in whole.headers
    downloaded = b""
    while len(downloaded) < len(content):
        part = client.get("/model/file", headers={"Range": f"bytes={len(downloaded)}-"})
        assert 0 < len(part.data) <= 700 and part.headers["Content-Length"] == str(len(part.data))
        downloaded += part.data
    assert downloaded == content


def test_it_follows_the_pointer(tmp_path: Path, published: Path, tiny_bundle: Path, sha256: str) -> None:
    changing = copy_store(published, tmp_path / "store")
    client = client_of(Instance(settings_of(changing)))
    tag = client.get("/model").headers["ETag"]
    with (tiny_bundle / "model.tflite").open("ab") as file:
        file.write(bytes(16))  # which LiteRT does not mind
    manifest = json.loads((tiny_bundle / "manifest.json").read_bytes())
    changed = (tiny_bundle / "model.tflite").read_bytes()
    manifest["files"]["model.tflite"] = {"sha256": hashlib.sha256(changed).hexdigest(), "bytes": len(changed)}
    (tiny_bundle / "manifest.json").write_text(json.dumps(manifest))
    publish(changing, tiny_bundle)
    reply = client.get("/model/file", headers={"If-None-Match": f'"{sha256}"'})
    assert (reply.status_code, reply.data, reply.headers["X-Pointer-Version"]) == (200, changed, "v2")
    assert client.get("/model/file", headers={"If-Match": f'"{sha256}"'}).status_code == 412
    assert client.get("/model", headers={"If-None-Match": tag}).get_json()["version"] == "v2"


# Memory and faults


def test_a_download_loads_no_model_and_reads_the_file_once(
    published: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Instance(settings_of(published))
    client = client_of(server)
    reads: list[str] = []
    read = LocalStore.read

    def counted(self: LocalStore, name: str) -> object:
        reads.append(name)
        return read(self, name)

    monkeypatch.setattr(LocalStore, "read", counted)
    with ThreadPoolExecutor(8) as clients:
        asked = clients.map(
            lambda at: (
                create_app(server.settings, server)
                .test_client()
                .get("/model/file", headers={"Range": f"bytes={at * 100}-{at * 100 + 99}"})
                .data
            ),
            range(8),
        )
        assert b"".join(asked) == content[:800]
    assert server.loads == 0
    assert client.get("/model/file", headers={"If-None-Match": "*"}).status_code == 304
    held = server.with_file()
    assert server.current().content is held.content, "the bytes are held twice"
    assert server.with_file() is server.current()
    assert sum(name.endswith("model.tflite") for name in reads) == 1
    assert server._loader._kept is None


def test_a_download_under_way_counts_as_a_model_that_is_held(published: Path) -> None:
    server = Instance(settings_of(published))
    loaded = server.current()
    pool = weakref.ref(loaded.pool)
    blocks = model._blocks(loaded, 0, len(loaded.content))
    next(blocks)
    server._serving = None
    del loaded
    gc.collect()
    assert pool() is not None, "a third model could be loaded beside it"
    blocks.close()
    del blocks
    gc.collect()
    assert pool() is None


def test_a_corrupt_file_is_never_sent(tmp_path: Path, published: Path, tiny_bundle: Path) -> None:
    broken = copy_store(published, tmp_path / "store")
    publish(broken, tiny_bundle)
    good = (broken / MODEL / "versions/v1/model.tflite").read_bytes()
    damage(broken, "v2")
    client = client_of(Instance(settings_of(broken)))
    reply = client.get("/model/file", headers={"Range": "bytes=0-9"})
    assert (reply.status_code, reply.data, reply.headers["X-Pointer-Version"]) == (206, good[:10], "v1")
    assert reply.headers["X-Pointer-Fallback"] == "v2;reason=corrupt"
    # What is known to be corrupt is not described either, so that a device does not ask for it for ever.
    assert client.get("/model").get_json()["version"] == "v1"
    damage(broken, "v1")
    client = client_of(Instance(settings_of(broken)))
    reply = client.get("/model/file")
    assert reply.status_code == 503 and reply.get_json(force=True)["type"].endswith("corrupt-version")


def test_a_missing_store_is_a_problem(tmp_path: Path) -> None:
    reply = client_of(Instance(settings_of(tmp_path / "nothing"))).get("/model/file")
    assert reply.status_code == 503 and reply.get_json(force=True)["type"].endswith("not-ready")


def test_a_reader_that_is_slow_does_not_keep_others_waiting_for_ever(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Instance(settings_of(published))
    monkeypatch.setattr("classifier.serving.loader.READ_WITHIN", 0.05)
    with server._loader._reading:
        replies: list[int] = []
        asking = threading.Thread(target=lambda: replies.append(client_of(server).get("/model/file").status_code))
        asking.start()
        asking.join(10)
    assert replies == [503]
    assert client_of(server).get("/model/file").status_code == 200
