"""docs/python.md, run: its examples on the tiny bundle, from the first to the last, and its table of fields."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from classifier.api import Result
from tests.support.bundles import colour_photo
from tests.support.processes import ROOT
from tests.support.serving import photo_bytes

PAGE = (ROOT / "docs/python.md").read_text()


def test_its_examples_run(
    published: Path,
    tiny_bundle_original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(published, ".model-store")
    shutil.copytree(tiny_bundle_original, "runs/food/bundle")
    Path("photo.jpg").write_bytes(photo_bytes())
    Path("photos").mkdir()
    for index, label in enumerate(("green", "blue")):
        Path(f"photos/{index}.jpg").write_bytes(colour_photo(label))
    Path("notes.txt").write_text("no photo")
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(examples) == PAGE.count("```") / 2 >= 6
    exec(compile("\n".join(examples), "python.md", "exec"), {})
    said = capsys.readouterr().out
    assert "v1 ('blue', 'green', 'grey', 'red')" in said and "red, 9" in said
    assert "0.jpg green" in said and "1.jpg blue" in said and "notes.txt Expected" in said
    for name in ("why.png", "why-not.png"):
        with Image.open(name) as image:
            assert image.size == (320, 240)


def test_its_table_has_every_field_of_a_result() -> None:
    cells = re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == {each.name for each in fields(Result)}
