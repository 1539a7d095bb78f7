"""Numbered exports: whole under the next number, or not there at all."""

from __future__ import annotations

import pytest

from trainer.run.exports import add_export


def _write(text: str):
    return lambda folder: (folder / "model").write_text(text)


def test_a_number_is_there_when_it_is_complete(tmp_path):
    target = tmp_path / "onnx"

    def write(folder):
        (folder / "half").touch()
        assert not (target / "1").exists()
        (folder / "half").rename(folder / "whole")

    assert add_export(target, write) == target / "1"
    assert [path.name for path in (target / "1").iterdir()] == ["whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_the_next_number_is_above_all_that_are_there(tmp_path):
    target = tmp_path / "onnx"
    for name in ("2", "10", "notes", "-3"):
        (target / name).mkdir(parents=True)
    assert add_export(target, _write("new")) == target / "11"
    (target / "11" / "model").unlink()
    assert add_export(target, _write("newer")) == target / "12"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_one_that_fails_leaves_what_was_there_before(tmp_path, error):
    add_export(tmp_path / "onnx", _write("before"))

    def write(folder):
        (folder / "half").touch()
        raise error

    with pytest.raises(type(error)):
        add_export(tmp_path / "onnx", write)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert files == {"onnx", "onnx/1", "onnx/1/model"}
    assert (tmp_path / "onnx/1/model").read_text() == "before"


def test_what_a_crash_left_is_not_part_of_the_next_one(tmp_path):
    (tmp_path / "onnx.partial").mkdir()
    (tmp_path / "onnx.partial" / "half").touch()
    placed = add_export(tmp_path / "onnx", _write("whole"))
    assert [path.name for path in placed.iterdir()] == ["model"]
