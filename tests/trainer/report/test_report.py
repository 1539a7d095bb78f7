"""The report: a page that stands alone, pictures that show something, a bundle that stays publishable."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from classifier.errors import Corrupt, InvalidRequest, NotFound
from classifier.registry.bundle import read_bundle
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from tests.support import photo_sets
from trainer.commands.reporting import tell_of_former_report
from trainer.evaluation import served_bundle
from trainer.evaluation.kept import keep_evaluations, kept_evaluations
from trainer.evaluation.served import Evaluation
from trainer.evaluation.served_bundle import open_bundle
from trainer.export.bundle import make_bundle
from trainer.main import app
from trainer.report import document, insides, making, material, page, publication
from trainer.report.making import ReportOptions, make_report
from trainer.run.config import TrainingConfig
from trainer.run.files import write_json
from trainer.run.folder import RunFolder, clear_unfinished_bundle, remove_report, replace_bundle
from trainer.run.locks import only_one
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import open_run, start_run
from trainer.training import train

MARKUP, JAPANESE, LONG = "<b>apple & $pie$", "寿司", "a_label_that_is_as_long_as_labels_get_" * 3
COLOURS = dict(zip((MARKUP, JAPANESE, LONG), photo_sets.COLOURS.values(), strict=True))
UNTESTED = LONG
"""The class without test photos."""


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A run with a bundle, whose labels are hard to write; one class has no test photo."""
    root = tmp_path_factory.mktemp("report")
    for number, (label, colour) in enumerate(COLOURS.items()):
        for split, count in (("train", 9), ("test", 0 if label == UNTESTED else 5)):
            for index in range(count):
                path = root / "photos" / split / label / f"{split}{index}.png"
                photo_sets.write_photo(path, colour, 100 * number + index + (50 if split == "test" else 0))
    config = TrainingConfig(
        DataConfig("folder", str(root / "photos"), validation_share=0.25),
        NetworkConfig("base_cnn", "none", image_size=32),
        ScheduleConfig(fine_tune_epochs=2, batch_size=8),
    )
    console = Console(file=io.StringIO())
    run = start_run(root / "run", config)
    make_bundle(train.train(config, run, console), config, run, console)
    return root


@pytest.fixture(scope="module")
def reported(original) -> Path:
    """The run with its report."""
    make_report(original / "run", Console(file=io.StringIO()), ReportOptions(ood={"ood": original / "photos/train"}))
    return original / "run"


def _report(run: Path, **options) -> Path:
    return make_report(run, Console(file=io.StringIO()), ReportOptions(**options))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_page_needs_nothing_but_itself(reported):
    text = (reported / "report/report.html").read_text(encoding="utf-8")
    seen = Page(text)
    assert not seen.open
    images = seen.all("img")
    assert len(images) >= 14
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in images)
    addresses = [value for _, attributes in seen.tags for name, value in attributes.items() if name in ("src", "href")]
    anchors = {value for value in addresses if value.startswith("#")}
    assert all(value.startswith(("data:", "#")) for value in addresses)
    assert anchors == {f"#{section['id']}" for section in seen.all("section")}
    assert not re.search(r"url\(|@import|//", text.split("</style>")[0].replace("</", ""))
    (policy,) = [tag["content"] for tag in seen.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy


def test_labels_are_text_whatever_they_hold(reported):
    text = (reported / "report/report.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    seen = Page(text)
    assert all(label in seen.text for label in COLOURS)
    card = (reported / "report/model_card.md").read_text(encoding="utf-8")
    assert "\\<b\\>apple \\& $pie$" in card
    assert JAPANESE in card


def test_the_report_is_published_with_the_bundle(reported, tmp_path):
    manifest = read_bundle(reported / "bundle")
    mine = _files(reported / "report")
    assert {"evaluations.npz", "options.json"} <= set(mine)
    mine = {name: data for name, data in mine.items() if name not in ("evaluations.npz", "options.json")}
    published = _files(reported / "bundle/report")
    assert mine.items() <= published.items()
    assert {f"report/{name}" for name in mine} <= set(manifest.files)
    assert {"test.json", "log.csv", "rejected.csv"} <= set(published), "the tables of the export stay"
    assert sum(map(len, published.values())) < 10e6
    names = {name.rpartition("/")[2] for name in mine}
    assert {
        "class_distribution.png", "samples.jpg", "augmentation.jpg", "learning_curves.png", "confusion_matrix.png",
        "confused_pairs.csv", "predictions.jpg", "grad_cam.jpg", "activations.jpg", "filter_patterns.jpg",
        "reliability.png", "unknown_scores.png", "variants.csv", "model_card.md",
    } <= names  # fmt: skip
    store = Registry(LocalStore(tmp_path / "store"), "food")
    assert store.publish(reported / "bundle", who="kim", replay=lambda manifest, read_file: None).version == "v1"


def test_no_path_of_the_machine_is_published(reported, original):
    for name, data in _files(reported / "bundle/report").items():
        assert str(original).encode() not in data, name
    assert str(original).encode() not in (reported / "bundle/manifest.json").read_bytes()


def test_the_tables_agree_with_the_manifest(reported):
    manifest = read_bundle(reported / "bundle")
    tables = reported / "report/tables"
    figures = pd.read_csv(tables / "figures.csv", index_col="figure")
    assert list(figures.columns) == ["train", "validation", "test"]
    for name in ("photos", "top_1", "top_5", "f1", "log_loss"):
        assert figures.loc[name, "test"] == pytest.approx(manifest.metrics["test"][name], abs=1e-6)
    low, value, high = figures.loc[["f1_low", "f1", "f1_high"], "test"]
    assert 0 <= low <= value <= high <= 1
    classes = pd.read_csv(tables / "test_classes.csv", index_col="label")
    assert classes["photos"].to_dict() == {MARKUP: 5, JAPANESE: 5, UNTESTED: 0}
    assert "no photos" in (reported / "report/report.html").read_text(encoding="utf-8")
    ood = pd.read_csv(tables / "unknown_scores.csv")["group"].value_counts()
    assert ood.to_dict() == {"ood": 27, "test": 10, "validation": 6}


def test_every_picture_shows_something(reported):
    pictures = sorted((reported / "report/figures").iterdir())
    assert len(pictures) >= 14
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("L"), np.float32)
        assert min(pixels.shape) >= 150, path.name
        assert pixels.std() > 5, path.name


def test_the_same_report_again_is_the_same_and_measures_nothing(reported, monkeypatch):
    before = _files(reported / "report")
    monkeypatch.setattr(material, "evaluate", None)
    _report(reported, ood={"ood": reported.parent / "photos/train"})
    assert _files(reported / "report") == before
    read_bundle(reported / "bundle")


def test_what_was_kept_of_another_file_or_is_damaged_is_not_used(tmp_path):
    run, labels, truth = RunFolder(tmp_path), ("a", "b"), np.array([0, 1, 1], np.int32)
    kept = Evaluation(labels, truth, np.eye(2, dtype=np.float32)[truth], scores=np.array([0.5, 1, 0], np.float32))
    keep_evaluations(run, b"model", "photos", {"test": kept})
    found = kept_evaluations(run, b"model", "photos", labels, {"test": truth, "train": truth})
    assert list(found) == ["test"]
    assert found["test"].figures() == kept.figures()
    assert found["test"].scores.tolist() == [0.5, 1, 0]
    assert kept_evaluations(run, b"other", "photos", labels, {"test": truth}) == {}
    assert kept_evaluations(run, b"model", "other", labels, {"test": truth}) == {}
    assert kept_evaluations(run, b"model", "photos", labels, {"test": truth[1:]}) == {}
    # What is measured later of the same file stands beside it; of another one, in its place.
    keep_evaluations(run, b"model", "photos", {"train": kept})
    assert set(kept_evaluations(run, b"model", "photos", labels, {"test": truth, "train": truth})) == {"test", "train"}
    keep_evaluations(run, b"other", "photos", {"train": kept})
    assert list(kept_evaluations(run, b"other", "photos", labels, {"test": truth, "train": truth})) == ["train"]
    keep_evaluations(run, b"model", "photos", {"test": kept})
    path = tmp_path / "report/evaluations.npz"
    path.write_bytes(path.read_bytes()[:50])
    assert kept_evaluations(run, b"model", "photos", labels, {"test": truth}) == {}


@pytest.mark.long
def test_private_photos_are_left_out_of_the_report_and_of_what_was_published(reported, tmp_path):
    whole = _files(reported / "bundle")
    _report(reported, photos=False, licence="All rights reserved by <us>")
    try:
        for folder in (reported / "report", reported / "bundle/report"):
            assert [path.name for path in folder.rglob("*.jpg")] == ["filter_patterns.jpg"]
        text = (reported / "report/report.html").read_text(encoding="utf-8")
        assert text.count("data:image/jpeg") == 1
        assert "Photos of the data set are left out" in text
        assert "All rights reserved by &lt;us&gt;" in text
        kept = making.remembered(RunFolder(reported))
        assert (kept.photos, kept.licence) == (False, "All rights reserved by <us>")
        read_bundle(reported / "bundle")
        # Elsewhere, the bundle stays as it is.
        done = CliRunner().invoke(
            app, ["report", str(reported), "--out", str(tmp_path / "mine"), "--layers", "block2_1_relu"]
        )
        assert done.exit_code == 0, done.output
        assert done.output.endswith(f"report in {tmp_path / 'mine/report.html'}\n")
        assert "block2_1_relu" in (tmp_path / "mine/report.html").read_text(encoding="utf-8")
        assert (tmp_path / "mine/figures/samples.jpg").is_file()
        assert not (reported / "bundle/report/figures/samples.jpg").exists()
    finally:
        _restore(reported / "bundle", whole)
        _restore(
            reported / "report",
            {name.removeprefix("report/"): data for name, data in whole.items() if name.startswith("report/")},
        )


def _restore(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("step", ["describe_files", "write_file", "replace_bundle"])
def test_a_publication_that_is_cut_short_leaves_the_bundle(reported, monkeypatch, step):
    before = _files(reported / "bundle")

    def stop(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(publication, step, stop)
    with pytest.raises(KeyboardInterrupt):
        publication.publish_report(RunFolder(reported), reported / "report", [Path("model_card.md")])
    read_bundle(reported / "bundle")
    assert _files(reported / "bundle") == before


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Name, inode and time of everything below a folder: any write to it shows."""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {path.relative_to(folder).as_posix(): (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


@pytest.mark.long
def test_reading_commands_beside_an_export_change_nothing(reported, tmp_path):
    run = RunFolder(reported)
    evaluate = ("evaluate", reported, "--split", "test", "--out", tmp_path / "tables")
    others = ("evaluate", reported, "--ood", reported.parent / "photos/train")
    with only_one(run.path, run.config):
        clear_unfinished_bundle(run)  # as an export begins: others may have left one
        run.new_bundle.mkdir()
        (run.new_bundle / "model.tflite").write_bytes(b"half")
        try:
            _change_nothing(reported, evaluate, others, ("report", reported, "--out", tmp_path / "mine"))
            refused = CliRunner().invoke(app, ["report", str(reported)])
            assert "Another `trainer` process works in" in str(refused.exception)
            # Now it is put in place.
            run.bundle.rename(run.old_bundle)
            _change_nothing(reported, evaluate, others)
            assert material.gather(reported).manifest == read_bundle(run.old_bundle)
            assert (run.new_bundle / "model.tflite").is_file()
        finally:
            clear_unfinished_bundle(run)
    assert (tmp_path / "mine/report.html").is_file()
    assert material.gather(reported).bundle.folder == run.bundle


def _change_nothing(run: Path, *commands: tuple[object, ...]) -> None:
    before = _stamps(run)
    for command in commands:
        done = CliRunner().invoke(app, [*map(str, command)])
        assert done.exit_code == 0, done.output
        assert _stamps(run) == before, command


def test_a_bundle_that_is_replaced_while_it_is_read_is_read_again(reported, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(reported / "bundle", run.bundle)
    shutil.copytree(reported / "bundle", run.new_bundle)
    manifest = read_bundle(run.new_bundle)
    (run.new_bundle / "manifest.json").write_bytes(replace(manifest, created_by="kim").to_json())
    read = []

    def replaced_once(folder):
        read.append(folder)
        if len(read) == 1:
            replace_bundle(run)
        return read_bundle(folder)

    monkeypatch.setattr(served_bundle, "read_bundle", replaced_once)
    assert open_bundle(run).manifest.created_by == "kim"
    assert len(read) == 2
    # Damaged bytes are told, and not tried again.
    (run.bundle / "model.tflite").write_bytes(b"damaged")
    with pytest.raises(Corrupt, match=r"expected model\.tflite to have"):
        open_bundle(run)
    assert len(read) == 3


def test_what_is_missing_is_said_as_by_evaluate(reported, tmp_path):
    with pytest.raises(NotFound, match="Expected a run folder with a config"):
        _report(tmp_path)
    with pytest.raises(NotFound, match="Expected a folder of photos at --ood"):
        _report(reported, ood={"ood": tmp_path / "nowhere"}, out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="found none that can be read"):
        _report(reported, ood={"ood": tmp_path / "empty"}, out=tmp_path / "out")
    with pytest.raises(InvalidRequest, match=r"Expected --layers to name layers of base_cnn .* received 'nonsense'"):
        _report(reported, layers=("nonsense",), out=tmp_path / "out")
    photo = next((reported.parent / "photos/test").rglob("*.png"))
    photo.rename(tmp_path / "moved.png")
    try:
        with pytest.raises(NotFound, match=r"1 of 37 photos that the run was made with are missing"):
            _report(reported)
    finally:
        (tmp_path / "moved.png").rename(photo)
    _, config = open_run(reported)
    unfinished = start_run(tmp_path / "unfinished", config)
    with pytest.raises(NotFound, match="has no bundle yet; `trainer export"):
        _report(unfinished.path)


def test_the_layers_that_are_shown_are_spread_over_the_backbone(reported):
    backbone = insides.load_backbone(reported / "bundle/model.keras")
    assert insides.choose_layers(backbone) == ["block2_1_relu", "block3_1_relu", "block4_1_relu"]
    assert insides.choose_layers(backbone, ["block1_1"]) == ["block1_1"]


def test_explain_shows_photos_of_ones_own_and_counts_dead_filters(reported, tmp_path, capsys):
    photo_sets.write_photo(tmp_path / "red.png", (255, 40, 40), 1, side=60)
    photo_sets.write_photo(tmp_path / "flat.jpg", (9, 9, 9), 2)
    Image.new("RGB", (30, 60), (20, 20, 20)).save(tmp_path / "flat.jpg")
    out = tmp_path / "out"
    arguments = [*map(str, (tmp_path / "flat.jpg", tmp_path / "red.png")), "--run", str(reported), "--out", str(out)]
    app(["explain", *arguments], standalone_mode=False)
    said = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "flat_grad_cam.jpg", "flat_activations.jpg", "red_grad_cam.jpg", "red_activations.jpg", "filter_patterns.jpg",
        "filters.csv",
    }  # fmt: skip
    with Image.open(out / "red_grad_cam.jpg") as image:
        assert image.width > 2 * image.height
    table = pd.read_csv(out / "filters.csv")
    assert table["layer"].tolist()[0] == "block1_1_relu" and len(table) == 7
    assert (table["dead"] <= table["silent"]).all()
    held_out = int((pd.read_csv(reported / "data.csv")["split"] == "validation").sum())
    assert f"{table['dead'].sum()} dead on all of {2 + held_out} photos ({held_out} of the run)" in said
    assert f"{table['silent'].sum()} silent on flat.jpg" in said
    app(["explain", str(tmp_path / "red.png"), "--run", str(reported), "--out", str(out), "--label", MARKUP,
         "--layers", "block2_1"], standalone_mode=False)  # fmt: skip
    assert f"why {MARKUP}: " in capsys.readouterr().out
    with pytest.raises(InvalidRequest, match=r"Expected --label to be one of .*; received 'pear'"):
        app(["explain", *arguments, "--label", "pear"], standalone_mode=False)
    with pytest.raises(NotFound, match=r"Expected a photo at .*none\.jpg; there is none"):
        app(["explain", str(tmp_path / "none.jpg"), *arguments[2:]], standalone_mode=False)


def test_the_page_escapes_all_that_it_is_given(tmp_path):
    evil = '"><script>alert(1)</script>'
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    blocks = (
        document.Paragraph(evil), document.Listing((evil,)), document.Picture(Path("x.png"), evil, evil),
        document.Table(evil, (evil, "n"), ((evil, 1), ("b", None)), ("", ".2f"), sortable=True),
    )  # fmt: skip
    seen = Page(page.to_html(evil, blocks, [document.Section(evil, blocks)], tmp_path))
    assert len(seen.all("script")) == 1
    assert seen.text.count(evil) >= 8
    assert "not measured" in seen.text
    assert making.PAGE == "report.html"


def test_an_export_without_a_report_leaves_the_former_one_and_says_so(reported, capsys, monkeypatch):
    """The report of the export's own end goes first; without one, the reader is told what it is about."""
    before, bundle = _files(reported / "report"), _files(reported / "bundle")
    made = []
    monkeypatch.setattr("trainer.training.trained.load_trained", lambda *_: None)
    monkeypatch.setattr(
        "trainer.export.bundle.make_bundle", lambda *_: made.append(1) or read_bundle(reported / "bundle")
    )
    app(["export", str(reported), "--no-report"], standalone_mode=False)
    assert made and (_files(reported / "report"), _files(reported / "bundle")) == (before, bundle)
    said = " ".join(capsys.readouterr().out.split())
    assert f"report.html tells of the bundle before this one; `trainer report {reported}` makes it anew" in said


def test_the_report_of_a_former_bundle_goes_but_its_choices_stay(tmp_path, capsys):
    run = RunFolder(tmp_path)
    write_json(run.report_options, {"layers": ["a"], "photos": False, "licence": None})
    for name in ("evaluations.npz", "report.html", "model_card.md", "figures/a.png", "tables/a.csv"):
        (run.report / name).parent.mkdir(exist_ok=True)
        (run.report / name).touch()
    remove_report(run)
    tell_of_former_report(run)
    assert not capsys.readouterr().out
    assert set(_files(run.report)) == {"options.json", "evaluations.npz"}
    assert making.remembered(run).layers == ("a",)


def test_a_run_that_starts_again_goes_on_leaving_photos_out(tmp_path):
    config = TrainingConfig(DataConfig("folder", "photos"), NetworkConfig(), ScheduleConfig())
    run = start_run(tmp_path / "run", config)
    write_json(run.report_options, {"layers": ["block2_1_relu"], "photos": False, "licence": "ours"})
    (run.report / "figures").mkdir()
    (run.report / "report.html").write_text("the former one")
    start_run(run.path, config, overwrite=True)
    assert [path.name for path in run.report.iterdir()] == ["options.json"]
    # Not the layers: another network has others.
    assert making.remembered(run) == ReportOptions(photos=False, licence="ours")
