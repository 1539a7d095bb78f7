"""What `firebase deploy` uploads, packed by firebase-tools itself, offline. `make test-emulators` runs this file."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

from tests.emulators.suite import ROOT, copy_project
from tests.support.documented import commands

PACK = """
const { prepareFunctionsUpload } = require(process.argv[1] + "/deploy/functions/prepareFunctionsUpload.js");
const config = require(process.argv[2] + "/firebase.json").functions[0];
prepareFunctionsUpload(process.argv[2], process.argv[2] + "/functions", config, [])
    .then((packed) => console.log("packed:" + packed.pathToSource));
"""
OPTIONS = """
const client = require(process.argv[1]);
const options = (name) => client.getCommand(name)?.options?.map((each) => each.long) ?? null;
console.log(JSON.stringify(Object.fromEntries(process.argv.slice(2).map((name) => [name, options(name)]))));
"""
EVERYWHERE = {"--project"}
"""Options of all of its commands."""
STRAY = (
    ".env", ".env.local", ".env.demo-pointer", ".secret.local", "__pycache__/main.cpython-311.pyc",
    "classifier/endpoints/__pycache__/app.cpython-311.pyc", "classifier/endpoints/app.pyc", ".mypy_cache/a.json",
    ".ruff_cache/a", ".pytest_cache/v/a", ".model-store/food/channels.json", "firebase-debug.log", "classifier/x.log",
    "litert/2.5.3/index.js.gz",
)  # fmt: skip


def test_exactly_the_deployed_files_are_uploaded(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    for name in STRAY:
        path = project / "functions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("must stay here")
    tools = ROOT / "node_modules/firebase-tools/lib"
    done = subprocess.run(["node", "-e", PACK, tools, project], capture_output=True, text=True, check=True, timeout=120)
    packed = Path(next(line for line in done.stdout.splitlines() if line.startswith("packed:")).removeprefix("packed:"))
    try:
        names = set(zipfile.ZipFile(packed).namelist())
    finally:
        packed.unlink()
    source = ROOT / "functions"
    meant = {"main.py", "openapi.yaml", "requirements.txt"}
    meant |= {path.relative_to(source).as_posix() for path in (source / "classifier").rglob("*.py")}
    meant |= {f"web/{path.name}" for path in (source / "web").iterdir()}
    assert names == meant


def test_hosting_publishes_the_page_alone() -> None:
    config = json.loads((ROOT / "firebase.json").read_text())["hosting"]
    assert config["public"] == "functions/web"
    assert {path.suffix for path in (ROOT / config["public"]).iterdir()} <= {".html", ".css", ".js", ".ico", ".txt"}


def test_firebase_tools_knows_the_commands_of_the_pages() -> None:
    """They change a project, so that nobody runs them here; the release that package.json pins says what they take."""
    told = [each for each in commands() if each.program == "npx" and each.words[1] == "firebase"]
    names = sorted({each.words[2] for each in told})
    assert {"deploy", "functions:delete", "functions:log", "hosting:disable"} <= set(names)
    command = ["node", "-e", OPTIONS, str(ROOT / "node_modules/firebase-tools"), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    known = json.loads(done.stdout.splitlines()[-1])
    for each in told:
        options = {word.partition("=")[0] for word in each.words[3:] if word.startswith("--")}
        assert known[each.words[2]] is not None and options <= {*known[each.words[2]], *EVERYWHERE}, str(each)
