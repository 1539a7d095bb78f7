"""The documents say what the code does: settings, commands, targets, links."""

from __future__ import annotations

import re
import subprocess

import pytest
import typer

from admin_cli.main import app as admin_cli
from classifier.endpoints import problems
from classifier.settings import declarations
from scripts import cli_reference
from tests.support.processes import ROOT
from trainer.main import app as trainer

README = (ROOT / "README.md").read_text()
ROOMS = ("functions", "trainer", "admin_cli", "batch", "tests", "bench", "scripts", "clients", "deploy", ".github")
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))),
)


def test_the_settings_table_is_that_of_the_declarations():
    assert cli_reference.with_settings(README) == README, "run make docs"
    assert all(f"| `{each.variable}` |" in README for each in declarations().values())


@pytest.mark.parametrize(("name", "app"), [("admin_cli", admin_cli), ("trainer", trainer)])
def test_the_documents_use_only_commands_and_options_that_exist(name, app):
    commands = typer.main.get_command(app).commands
    text = "\n".join((ROOT / document).read_text() for document in DOCUMENTS)
    used = re.findall(rf"^\s+(?:\$ |[A-Z_]+=\S+ )*{name} ([a-z][a-z-]*)((?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
    assert used
    for command, rest in used:
        assert command in commands
        meant = commands[command]
        if inner := getattr(meant, "commands", None):
            meant = inner[rest.split()[0]]
        rest = re.split(r"\s--\s", rest)[0]  # what stands behind it is another program's
        known = {option for parameter in meant.params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, (command, rest)
    assert {command for command, _ in used} | {"show", "verify", "export", "datasets", "samples"} >= set(commands)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if not target.startswith("http"):
            file = (ROOT / document).parent.joinpath(target) if target else ROOT / document
            assert file.exists(), target
            assert not anchor or anchor in _anchors(file.read_text()), f"{target}#{anchor}"


def _anchors(text):
    """The anchors of a page's headings, as code hosts make them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = [title.strip().lower() for title in re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_files_that_are_named_exist(document):
    names = set(re.findall(r"`/?([\w./-]+\.(?:py|sh|yaml|css|js))`", (ROOT / document).read_text()))
    files = [f"/{path.relative_to(ROOT)}" for top in ROOMS for path in (ROOT / top).rglob("*") if path.is_file()]
    assert [name for name in sorted(names) if not any(file.endswith(f"/{name}") for file in files)] == []


def test_the_operators_page_knows_every_problem_that_is_not_the_request_s():
    page = (ROOT / "docs/operations.md").read_text()
    unavailable = {kind.slug for kind in problems.TABLE.values() if kind.status == 503}
    assert len(unavailable) >= 5 and [slug for slug in unavailable if f"| `{slug}` |" not in page] == []
    assert [slug for slug in ("unauthenticated", "forbidden", "rate-limited") if slug not in page] == []


def test_the_reference_is_that_of_the_help():
    assert (ROOT / "docs/cli.md").read_text() == cli_reference.reference(), "run make docs"


def test_git_ignores_the_folders_that_the_pages_use():
    used = ("runs/food", "tunings/mine", "tables", "data/food-101", "photos", ".model-store", ".samples")
    text = README + (ROOT / "docs/training.md").read_text()
    assert [folder for folder in used if folder not in text] == []
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    for folder in used:
        assert subprocess.run(["git", "check-ignore", "--quiet", f"{folder}/x"], cwd=ROOT).returncode == 0, folder


def test_make_explains_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[1].split())
    assert set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE)) == targets
