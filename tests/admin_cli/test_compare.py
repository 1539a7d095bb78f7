"""Comparing two real models, and promotions that the gate refuses: what is printed, written and recorded."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from classifier.registry.manifest import Manifest
from classifier.storage.json_api import JsonApiStore
from tests.support.bundles import TINY_LABELS, colour_photo, files_of
from tests.support.commands import Cli, call, cli_fixture  # noqa: F401  # fixtures


@pytest.fixture(name="photos", scope="module")
def photos_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos of each colour, in a folder of that name."""
    folder = tmp_path_factory.mktemp("photos")
    for label in TINY_LABELS:
        (folder / label).mkdir()
        for seed in range(10):
            (folder / label / f"{seed}.png").write_bytes(colour_photo(label, seed=seed))
    return folder


@pytest.fixture(name="two")
def two_fixture(cli: Cli, tiny_bundle: Path, confused_bundle: Path) -> Cli:
    """v1 serves and is right; v2 takes green for blue."""
    cli("publish", tiny_bundle, "--again").well()
    cli("publish", confused_bundle, "--again").well()
    cli("promote", "v1").well()
    return cli


def with_predictions(bundle: Path, wrong: int, *, digests: bool = True) -> Path:
    """Give a bundle a table of 100 test photos, the first `wrong` of which it took for another colour."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["image_path", "label", "predicted", "confidence", *(["sha256"] if digests else [])])
    for number in range(100):
        label = TINY_LABELS[number % 4]
        predicted = TINY_LABELS[(number + 1) % 4] if number < wrong else label
        writer.writerow([f"{number}.png", label, predicted, 0.9, *([f"{number:064x}"] if digests else [])])
    (bundle / "report/test_predictions.csv").write_text(table.getvalue())
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_bytes(dataclasses.replace(manifest, files=files_of(bundle)).to_json())
    return bundle


def test_two_versions_are_compared_on_the_photos_of_a_folder(two: Cli, photos: Path, tmp_path: Path) -> None:
    said = two("compare", "v1", "v2", "--eval-set", photos).well()
    assert "compared on 40 photos of" in " ".join(said.split())
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.split()}
    assert rows["top-1"][1:3] == ["100.0%", "75.0%"]
    assert rows["green"][1:4] == ["10", "100.0%", "0.0%"]
    assert rows["green"][-1] == "worse"
    assert "ms a photo" in said and "MB in memory" in said
    assert "the gate refuses v2:" in said
    assert max(map(len, said.splitlines())) <= 80
    compared = two("compare", "production", "v2", "--eval-set", photos, "--json").json()
    assert compared["top_1"]["difference"] == -0.25
    assert compared["top_1"]["high"] < 0
    assert {each["before"]: each["after"] for each in compared["changed"]} == {"green": "blue"}
    assert len(compared["changed"]) == 10
    assert compared["costs"]["after"]["latency_ms"] > 0
    assert any("recall of green falls" in reason for reason in compared["refused"])
    assert "The gate refuses v2" in two("compare", "v1", "v2", "--eval-set", photos, "--check").err


def test_the_page_shows_what_changed_with_both_overlays(two: Cli, photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "changed.html"
    said = two("compare", "v1", "v2", "--eval-set", photos, "--html", page).well()
    assert "wrote" in said and page.name in said
    html = page.read_text()
    assert html.count("<img") == 20
    assert "default-src &#39;none&#39;" in html
    assert "green/3.png" in html
    assert "://" not in html
    golden = tmp_path / "golden.html"
    two("compare", "v1", "v2", "--html", golden).well()
    assert golden.read_text().count("<section") == 4  # two golden photos of green, of each version
    assert "can be written" in two("compare", "v1", "v2", "--html", tmp_path / "no/such.html").err


def test_photos_are_taken_from_a_table_and_a_run_is_compared_before_it_is_published(
    two: Cli, photos: Path, tmp_path: Path, confused_bundle: Path
) -> None:
    table = tmp_path / "eval.csv"
    rows = [f"{photo},{photo.parent.name}" for photo in sorted(photos.glob("*/*.png"))]
    table.write_text("\n".join(["image_path,label", *rows]))
    run = tmp_path / "runs" / "new"
    shutil.copytree(confused_bundle, run / "bundle")
    compared = two("compare", "production", run, "--eval-set", table, "--json").json()
    assert (compared["before"], compared["after"]) == ("v1", str(run))
    assert compared["top_1"]["photos"] == 40
    assert two("list", "--json").json()[-1]["version"] == "v2"
    table.write_text("file,label\na.png,red\n")
    assert "Expected the columns image_path and label" in two("compare", "v1", "v2", "--eval-set", table).failed(2)
    table.write_text("image_path,label\nnone.png,red\n")
    assert "the photo none.png" in two("compare", "v1", "v2", "--eval-set", table).failed(3)
    (tmp_path / "broken.png").write_bytes(b"not a photo")
    table.write_text("image_path,label\nbroken.png,red\n")
    assert "broken.png: " in two("compare", "v1", "v2", "--eval-set", table).failed(2)
    assert "no-such" in two("compare", "v1", "v2", "--eval-set", "no-such").failed(3)
    (tmp_path / "empty").mkdir()
    assert "found none" in two("compare", "v1", "v2", "--eval-set", tmp_path / "empty").failed(3)


@pytest.mark.parametrize("client", ["json-api", "google-cloud-storage"])
def test_the_photos_of_a_bucket_are_compared_on_and_decide_about_a_promotion(
    cli: Cli,
    json_api_store: JsonApiStore,
    tiny_bundle: Path,
    confused_bundle: Path,
    photos: Path,
    tmp_path: Path,
    client: str,
) -> None:
    """Over HTTP, with the versions in the bucket too."""
    for photo in photos.glob("*/*.png"):
        json_api_store.write(f"eval/{photo.parent.name}/{photo.name}", photo.read_bytes())
    json_api_store.write("eval/notes.txt", b"no photo")
    json_api_store.write("eval/red/notes.txt", b"no photo")
    json_api_store.write("evaluation/red/other.png", b"of another set")
    bucket = partial(cli, MODEL_STORE=f"{json_api_store.url}/models", STORAGE_CLIENT=client)
    for bundle in (tiny_bundle, confused_bundle, tiny_bundle):
        bucket("publish", bundle, "--again").well()
    bucket("promote", "v1").well()
    for place in (f"{json_api_store.url}/eval", f"{json_api_store.url}/eval/"):
        compared = bucket("compare", "v1", "v2", "--eval-set", place, "--json").json()
        assert compared["basis"] == f"40 photos of {place}"
        assert (compared["top_1"]["photos"], compared["top_1"]["difference"]) == (40, -0.25)
    refused = bucket("promote", "v2", "--eval-set", place)
    assert refused.code == 5
    assert "v2 is not promoted: top-1 falls from 100.0% to 75.0% on 40 photos" in refused.err
    bucket("compare", "v1", "v2", "--eval-set", place, "--html", tmp_path / "changed.html").well()
    assert (tmp_path / "changed.html").read_text().count("<img") == 20
    bucket("gate", "set", "top_1_drop=1", "class_drop=1").well()
    assert bucket("promote", "v2", "--eval-set", place).well() == "promoted v2 (before: v1)\n"
    assert "found none" in bucket("compare", "v1", "v2", "--eval-set", f"{json_api_store.url}/empty").failed(3)
    assert "no bucket 'no-such-bucket'" in bucket("compare", "v1", "v2", "--eval-set", "gs://no-such-bucket").failed(3)
    json_api_store.write("eval/red/broken.png", b"broken")
    assert "red/broken.png: " in bucket("compare", "v1", "v2", "--eval-set", place).failed(2)


def test_what_publication_stored_is_compared_where_both_have_seen_the_same_photos(
    cli: Cli, tiny_bundle: Path, confused_bundle: Path, tmp_path: Path
) -> None:
    better = with_predictions(tiny_bundle, wrong=1)
    worse = with_predictions(shutil.copytree(confused_bundle, tmp_path / "worse"), wrong=21)
    older = with_predictions(shutil.copytree(confused_bundle, tmp_path / "older"), wrong=21, digests=False)
    for bundle in (better, worse, older):
        cli("publish", bundle, "--again").well()
    compared = cli("compare", "v1", "v2", "--json").json()
    assert compared["basis"] == "the 100 test photos that both were measured on"
    assert compared["top_1"]["difference"] == -0.2
    assert compared["ece"] == {"before": pytest.approx(0.09), "after": pytest.approx(0.11)}
    # A release without photos' hashes: where all data is the same, paths tell which photos they were.
    assert cli("compare", "v1", "v3", "--json").json()["top_1"]["difference"] == -0.2
    elsewhere = with_data(with_predictions(shutil.copytree(older, tmp_path / "elsewhere"), 21, digests=False), "e" * 64)
    cli("publish", elsewhere, "--again").well()
    assert cli("compare", "v1", "v4", "--json").json()["top_1"] is None


def with_data(bundle: Path, fingerprint: str) -> Path:
    """Let a bundle have been made of other data."""
    manifest = Manifest.from_json((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_bytes(dataclasses.replace(manifest, data={"fingerprint": fingerprint}).to_json())
    return bundle


def test_a_worse_version_is_refused_and_nothing_changes(two: Cli, photos: Path, tmp_path: Path) -> None:
    pointer = tmp_path / "store/food/channels.json"
    before = pointer.read_bytes()
    refused = two("promote", "v2", "--eval-set", photos)
    assert refused.code == 5
    assert "top-1" in refused.out and "worse" in refused.out
    assert "v2 is not promoted: top-1 falls from 100.0% to 75.0% on 40 photos" in refused.err
    assert "--force --reason" in refused.err
    dry = two("promote", "v2", "--eval-set", photos, "--dry-run")
    assert dry.code == 5
    assert "nothing was changed" in dry.err
    assert pointer.read_bytes() == before
    blind = two("promote", "v2")
    assert blind.code == 5
    assert "--eval-set" in blind.err
    assert "--reason" in two("promote", "v2", "--force").failed(2)
    assert pointer.read_bytes() == before


def test_force_is_recorded_and_a_rollback_is_never_held_up(two: Cli, photos: Path) -> None:
    said = two("promote", "v2", "--eval-set", photos, "--force", "--reason", "green is not sold").well()
    assert said.startswith("promoted v2 (before: v1)\n- although top-1 falls")
    newest = two("history", "--json").json()[0]
    assert (newest["reason"], newest["to"]) == ("green is not sold", "v2")
    assert any("recall of green" in reason for reason in newest["forced"])
    assert two("rollback").well() == "rolled back to v1 (before: v2)\n"


def test_a_better_version_passes(cli: Cli, tiny_bundle: Path, confused_bundle: Path, photos: Path) -> None:
    cli("publish", confused_bundle, "--again").well()
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    assert "would" not in cli("promote", "v2", "--eval-set", photos, "--dry-run").well()
    assert cli("history", "--json").json()[0]["to"] == "v1"
    assert cli("promote", "v2", "--eval-set", photos).well() == "promoted v2 (before: v1)\n"


def test_the_gate_is_shown_and_set(two: Cli) -> None:
    assert two("gate", "show", "--json").json()["top_1_drop"] == 0.01
    said = two("gate", "set", "top_1_drop=0.5", "class-drop=100%", "--reason", "a trial").well()
    assert said == "gate: top_1_drop=0.5, class_drop=1 (before: top_1_drop=0.01, class_drop=0.1)\n"
    rows = {line.split()[0]: line.split() for line in two("gate", "show").well().splitlines()}
    assert rows["top_1_drop"][1:3] == ["0.5", "0.01"]
    assert two("gate", "set", "top_1_drop=0.5").well() == "the gate has these values already; nothing was changed\n"
    said = two("history").well()
    assert "gate" in said.splitlines()[1] and "\n    a trial\n" in said
    assert "NAME=VALUE" in two("gate", "set", "top_1_drop").failed(2)
    assert "Expected one of top_1_drop" in two("gate", "set", "top=1").failed(2)
    assert json.loads(two("gate", "show", "--json").out)["class_drop"] == 1.0


def test_what_is_not_there_is_told(two: Cli) -> None:
    assert "received 'v9'" in two("compare", "v1", "v9").failed(3)
    assert "There is no canary" in two("compare", "production", "canary").failed(3)
    assert "Expected a bundle" in two("compare", "production", ".").failed(3)


def test_a_model_that_does_not_exist_gets_no_gate(capfd: pytest.CaptureFixture[str], two: Cli, tmp_path: Path) -> None:
    done = call(capfd, "gate", "set", "top_1_drop=0.1", "--model", "soups", MODEL_STORE=tmp_path / "store")
    assert "Expected one of the models food" in done.failed(3)
    assert not (tmp_path / "store/soups").exists()
