"""The clients of clients/, packed and installed as an app would, against a real server; `make test-clients` runs this.

Each scenario is done by Python, by Node and by Chromium, and each time has to give the same.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NotRequired, get_origin, get_type_hints, is_typeddict

import pytest
import yaml

from tests.clients.unreliable import unreliable
from tests.support.bundles import colour_photo
from tests.support.contract import DOCUMENT
from tests.support.page import CHROMEDRIVER, CHROMIUM, browser  # noqa: F401  # a fixture
from tests.support.processes import ROOT
from tests.support.serving import Serving, copy_store, publish, serve
from tests.support.slowed import slowed
from tests.support.static_site import static_site
from tests.support.tokens import app_token, google, id_token

HERE = Path(__file__).parent
CLIENTS = ROOT / "clients"
PHOTO = base64.b64encode(colour_photo("red", size=(64, 48))).decode()
Do = Callable[..., Any]
"""Does a scenario: its name, and what is given to it."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Do:
    """The module, installed from a copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("python")
    shutil.copytree(CLIENTS / "python", folder / "source")
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "--target", folder / "installed", folder / "source", folder=folder,
    )  # fmt: skip

    def do(scenario: str, **given: Any) -> Any:
        program = HERE / "python_scenarios.py"
        done = _run(
            sys.executable, program, scenario, json.dumps(given), folder=folder, PYTHONPATH=str(folder / "installed")
        )
        return json.loads(done)

    return do


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed, as npm packs it, and the scenarios."""
    folder = tmp_path_factory.mktemp("typescript")
    packed = json.loads(_run("npm", "pack", "--json", "--pack-destination", folder, folder=CLIENTS / "typescript"))[0]
    names = {file["path"] for file in packed["files"]}
    assert names == {"README.md", "client.d.ts", "client.js", "package.json", "pointer.d.ts"}
    (folder / "package.json").write_text('{"type": "module"}')
    _run("npm", "install", "--offline", "--no-audit", "--no-fund", folder / packed["filename"], folder=folder)
    shutil.copy(HERE / "typescript_scenarios.mjs", folder)
    imports = {"pointer-client": "./node_modules/pointer-client/client.js"}
    (folder / "index.html").write_text(f'<script type="importmap">{json.dumps({"imports": imports})}</script>')
    return folder


@pytest.fixture(scope="module")
def node(app: Path) -> Do:
    def do(scenario: str, **given: Any) -> Any:
        return json.loads(_run("node", "typescript_scenarios.mjs", scenario, json.dumps(given), folder=app))

    return do


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, app: Path) -> Iterator[Do]:
    """A page of another origin than the function's."""
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("chromium or chromedriver is not installed (Debian: chromium-driver)")
    chrome = request.getfixturevalue("browser")
    with static_site(app) as origin:
        chrome.get(origin)
        chrome.set_script_timeout(60)
        script = (
            "const [name, given, done] = arguments;"
            "import('/typescript_scenarios.mjs').then(({scenarios}) => scenarios[name](given))"
            ".then((value) => done({value}), (error) => done({error: String(error)}));"
        )

        def do(scenario: str, **given: Any) -> Any:
            told = chrome.execute_async_script(script, scenario, given)
            assert "error" not in told, told["error"]
            return told["value"]

        yield do


@pytest.fixture(params=["python", "node", "page"])
def do(request: pytest.FixtureRequest) -> Do:
    chosen = request.getfixturevalue(request.param)

    def with_photo(scenario: str, url: str, **given: Any) -> Any:
        return chosen(scenario, url=url, photo=PHOTO, **given)

    return with_photo


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    store = copy_store(published, tmp_path_factory.mktemp("store") / "store")  # corrections are written into it
    with serve(store, tmp_path_factory.mktemp("server")) as serving:
        yield serving


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("predicts", ["red", "ok", 2, "blue", "image/png", 2, "v1"]),
        ("several", ["red", 422]),
        ("alone", [1, 0, "red", False, "v1", "Expected one photo or more; received none."]),
        ("explains", ["image/jpeg", [0xFF, 0xD8, 0xFF], "red", True, "v1"]),
        ("describes", ["v1", True, "food", 1]),
        ("downloads", ["v1", True, True, True]),
        ("refused", [True, 400, "invalid-request", True, True]),
    ],
)
def test_what_an_app_does(do: Do, server: Serving, scenario: str, expected: object) -> None:
    assert do(scenario, server.url) == expected


def test_the_same_correction_is_said_twice(do: Do, published: Path, tmp_path: Path) -> None:
    with serve(copy_store(published, tmp_path / "store"), tmp_path / "server") as serving:
        assert do("corrects", serving.url) == [False, True, True]


def test_what_is_damaged_on_its_way_is_not_taken(do: Do, server: Serving) -> None:
    with unreliable(server.url, "damaged") as proxy:
        damaged, message = do("damaged", proxy.url)
    sha256 = server.get("/model").json()["file"]["sha256"]
    assert damaged and message.startswith(f"Expected the SHA-256 {sha256}; received ")


def test_a_download_begins_anew_where_another_version_serves_meanwhile(
    do: Do, published: Path, confused_bundle: Path, tmp_path: Path
) -> None:
    store = copy_store(published, tmp_path / "store")

    def promote(path: str, number: int) -> None:
        if number == 2:
            assert path.startswith("/model/file")
            publish(store, confused_bundle)

    with (
        serve(store, tmp_path / "server", POINTER_TTL="0") as serving,
        unreliable(serving.url, before=promote) as proxy,
    ):
        assert do("downloads", proxy.url) == ["v2", True, True, True]
    # The last is the 304 of asking again.
    assert [path.partition("?")[0] for path in proxy.paths] == [
        "/model",
        "/model/file",
        "/model",
        "/model/file",
        "/model",
    ]


def test_an_overloaded_function_is_asked_again(do: Do, published: Path, tmp_path: Path) -> None:
    """One forward pass takes longer than the others may wait: they are told when to come again."""
    slow = slowed(tmp_path / "slow", 0.4)
    with serve(published, tmp_path / "server", INTERPRETERS="1", INTERPRETER_WAIT="0.1", PYTHONPATH=slow) as serving:
        assert do("waits", serving.url) == ["red"] * 3
        assert statuses(serving).count(503) >= 1


def test_a_rate_limit_is_kept_to(do: Do, published: Path, tmp_path: Path) -> None:
    with serve(published, tmp_path / "server", RATE_LIMIT="1/second") as serving:
        assert do("waits", serving.url) == ["red"] * 3
        assert statuses(serving).count(429) >= 1


def test_nobody_waits_for_what_comes_after_the_deadline(do: Do, server: Serving) -> None:
    with unreliable(server.url, "busy") as proxy:
        assert do("givesUp", proxy.url) == [503, "overloaded", 30, True]
    assert len(proxy.paths) == 1


def test_googles_own_503_is_asked_again(do: Do, server: Serving) -> None:
    with unreliable(server.url, "full") as proxy:
        assert do("describes", proxy.url) == ["v1", True, "food", 1]
    assert len(proxy.paths) == 4


def test_a_call_ends_at_its_deadline_and_when_it_is_cancelled(do: Do, server: Serving) -> None:
    with unreliable(server.url, "silent") as proxy:
        assert do("late", proxy.url) == "TimeoutError"
        assert do("cancelled", proxy.url) in (["AbortError", True], ["Cancelled", True])
    with unreliable(server.url, "busy") as proxy:  # while it waits to ask again
        assert do("cancelled", proxy.url) in (["AbortError", True], ["Cancelled", True])


def test_tokens_are_sent_and_a_refused_one_is_asked_for_anew(do: Do, published: Path, tmp_path: Path) -> None:
    with google() as answers:
        environment = answers.environment(tmp_path / "site")
        with serve(published, tmp_path / "server", ACCESS="auth+app-check", **environment) as serving:
            got = do("tokens", serving.url, tokens={"user": id_token(), "app": app_token()})
    clear = "Expected an https:// address for the tokens; received http://a.example."
    assert got == ["red", [False, True], "unauthenticated", clear]


def test_the_types_of_the_python_module_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CLIENTS / "python"))
    import pointer_client

    schemas = yaml.safe_load(DOCUMENT.read_text())["components"]["schemas"]

    def members(name: str) -> tuple[set[str], set[str]]:
        schema = schemas[name]
        parts = [
            schemas[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
            for part in schema.get("allOf", [schema])
        ]
        return (
            {each for part in parts for each in part["properties"]},
            {each for part in parts for each in part.get("required", [])},
        )

    compared = 0
    for name, schema in schemas.items():
        # A problem is that of a reply, which has the request's id, or that of one photo of several.
        typed = pointer_client.Problem if name == "ProblemDetails" else getattr(pointer_client, name, None)
        if not is_typeddict(typed) or name == "Problem":
            continue
        hints = get_type_hints(typed, include_extras=True)
        required = {each for each, hint in hints.items() if typed.__total__ and get_origin(hint) is not NotRequired}
        assert set(hints) >= members(name)[0], name
        assert required == members(name)[1], (name, schema)
        compared += 1
    assert compared >= 18


def statuses(serving: Serving) -> list[int]:
    lines = [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]
    return [line["httpRequest"]["status"] for line in lines if "httpRequest" in line]


def _run(*command: object, folder: Path, **env: str) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
