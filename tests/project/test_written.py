"""Benchmarks that write their own section: what is in it, what is replaced, and that a failure writes nothing."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import written
from tests.support.processes import ROOT

PROGRAM = """\
import sys
sys.path.insert(0, {root!r})
from bench import written
def main():
    print("ratio  2.5")
    if "fail" in sys.argv: sys.exit("no photos")
written.program(main)
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = folder / "speed.py"
    program.write_text(PROGRAM.format(root=str(ROOT)))
    return subprocess.run([sys.executable, program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_section_has_date_machine_and_command_and_replaces_the_one_of_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n## Speed\n\n<!-- speed.py: begin -->\nold\n<!-- speed.py: end -->\n\n## More\n")
    done = run(tmp_path, "--runs", "3", "--write", "page.md")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ratio  2.5\nwrote the section of speed.py in page.md\n"
    text = page.read_text()
    assert text.startswith("# Page\n\n## Speed\n\n<!-- speed.py: begin -->\n2") and text.endswith(
        "end -->\n\n## More\n"
    )
    assert "$ python bench/speed.py --runs 3\nratio  2.5\n```" in text
    assert "old" not in text and " CPUs (" in text and f"Python {platform.python_version()}" in text
    assert platform.node() not in text


def test_a_section_that_is_not_there_is_appended() -> None:
    text = written.section("a.py", "python bench/a.py", "1\n", when=datetime(2026, 1, 2, tzinfo=UTC), where="a machine")
    assert written.replaced("# Page\n", "a.py", text) == f"# Page\n\n## a.py\n\n{text}\n"
    assert text.startswith("<!-- a.py: begin -->\n2026-01-02, a machine:\n")


def test_one_that_does_not_end_is_told() -> None:
    with pytest.raises(ValueError, match=r"Expected the section of a\.py to end with"):
        written.replaced("<!-- a.py: begin -->\n", "a.py", "x")


def test_a_program_that_fails_or_a_page_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Page\n")
    assert run(tmp_path, "fail", "--write=page.md").stderr == "no photos\n"
    assert (tmp_path / "page.md").read_text() == "# Page\n"
    done = run(tmp_path, "--write", "other.md")
    assert (done.stdout, done.stderr) == ("", "Expected --write to name a page that exists; received other.md.\n")
