"""docs/quickstart.ipynb: well-formed, without outputs, and its cells run from the first to the last."""

from __future__ import annotations

import ast
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.processes import ROOT

NOTEBOOK = json.loads((ROOT / "docs/quickstart.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_whose_outputs_are_not_kept() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_its_cells_are_python_for_any_interpreter_and_its_links_lead_somewhere() -> None:
    for cell in CODE:
        compile(cell, "cell", "exec")  # no magics
    for cell in NOTEBOOK["cells"]:
        for target in "".join(cell["source"]).split("](")[1:] if cell["cell_type"] == "markdown" else []:
            assert (ROOT / "docs" / target.partition(")")[0]).exists(), target


@pytest.mark.long
def test_it_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    shown = [_run(cell, names) for cell in CODE]
    assert sum(isinstance(each, Image.Image) for each in shown) == 2  # the photos, and why
    said = capsys.readouterr().out
    assert "promoted v1" in said
    assert names["model"].version == "v1" and names["right"] >= 0.9 * len(names["held_out"]) > 0
    shutil.rmtree(names["WORK"])


def _run(cell: str, names: dict[str, Any]) -> object:
    """Run a cell as Jupyter does: what its last line is worth is shown."""
    *before, last = ast.parse(cell).body
    if not isinstance(last, ast.Expr):
        exec(compile(cell, "cell", "exec"), names)
        return None
    exec(compile(ast.Module(before, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
