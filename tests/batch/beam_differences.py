"""Two labellings of the same photos, and the photos whose labels would teach most."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.commands import process
from tests.support.labelling import (
    Engine,
    Failed,
    engine_fixture,  # noqa: F401  # a fixture
    job_for,
    needs_beam,
    rows,
)
from tests.support.serving import publish

pytestmark = needs_beam
EACH = 6


@pytest.fixture(scope="module", name="place")
def place_fixture(
    tmp_path_factory: pytest.TempPathFactory, engine: Engine, tiny_bundle_original: Path, confused_bundle: Path
) -> Path:
    """Photos of four colours that v1 and v2 have labelled; v2 takes green for blue."""
    folder = tmp_path_factory.mktemp("differences")
    publish(folder / "store", tiny_bundle_original)
    publish(folder / "store", confused_bundle)
    (folder / "photos").mkdir()
    for number in range(EACH):
        for label in TINY_LABELS:
            (folder / f"photos/{label}-{number}.png").write_bytes(colour_photo(label, seed=number))
    (folder / "photos/cut.png").write_bytes(colour_photo("red")[:300])
    only_v1 = folder / "photos/early.png"
    only_v1.write_bytes(colour_photo("red", seed=50))
    (folder / "photos/<b>changed & sent again.png").write_bytes(colour_photo("blue", seed=60))
    engine.label(job_for(folder / "store", folder / "photos", folder / "labels", "v1"))
    only_v1.unlink()
    (folder / "photos/<b>changed & sent again.png").write_bytes(colour_photo("blue", seed=61))
    (folder / "photos/late.png").write_bytes(colour_photo("red", seed=51))
    engine.label(job_for(folder / "store", folder / "photos", folder / "labels", "v2"))
    return folder


def difference(engine: Engine, place: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "out": str(place / "labels"), "before": "v1", "after": "v2", "photos": 8, "pictures": False,
        "billing_project": "", **changes,
    }  # fmt: skip
    return engine.run("difference", values)["difference"]


def test_what_changed_is_counted_by_class(engine: Engine, place: Path) -> None:
    found = difference(engine, place)
    counts = {
        "shared": 4 * EACH + 1, "changed": EACH, "unreadable": 1, "other_bytes": 1, "only_before": 1, "only_after": 1,
    }  # fmt: skip
    assert {name: found[name] for name in counts} == counts
    classes = {row.pop("label"): row for row in found["classes"]}
    assert classes["green"] == {"before": EACH, "after": 0, "left": EACH, "came": 0}
    assert classes["blue"] == {"before": EACH, "after": 2 * EACH, "left": 0, "came": EACH}
    assert classes["red"] == classes["grey"] == {"before": EACH, "after": EACH, "left": 0, "came": 0}
    assert found["moves"] == [["green", "blue", EACH]]
    changed = found["photos"][:EACH]
    assert {Path(photo["path"]).name for photo in changed} == {f"green-{number}.png" for number in range(EACH)}
    said = {(row["version"], row["path"]): row for row in rows(place / "labels")}
    for photo in changed:
        for version, side in (("v1", "before"), ("v2", "after")):
            row = said[version, photo["path"]]
            assert photo[side] == {name: row[name] for name in ("label", "confidence", "status")}
        one, other = (
            {each["label"]: each["confidence"] for each in said[version, photo["path"]]["top_k"]}
            for version in ("v1", "v2")
        )
        assert photo["distance"] == pytest.approx(sum(abs(one[each] - other[each]) for each in one) / 2, abs=1e-6)
    distances = [photo["distance"] for photo in found["photos"]]
    assert distances == sorted(distances, reverse=True)


def test_the_command_prints_a_table_and_writes_a_page(place: Path, tmp_path: Path) -> None:
    page = tmp_path / "changes.html"
    printed = process("relabel-diff", "1", "v2", "--labels", place / "labels", "--html", page, COLUMNS="80").well()
    shared = 4 * EACH + 1
    assert f"{shared} photos that both labelled: {EACH} ({EACH / shared:.1%}) have another label" in printed
    assert f"green   {EACH}   0     {EACH}     0" in printed and f"green  blue       {EACH}" in printed
    assert max(len(line) for line in printed.splitlines() if str(page) not in line) <= 80
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == text.count("<li>") >= EACH
    assert "<b>" not in text and "<script" not in text
    assert "default-src &#39;none&#39;" in text
    told = process("relabel-diff", "v1", "v3", "--labels", place / "labels").failed(3)
    assert "Expected labels of v3" in told and "found those of v1, v2" in told


def test_a_sample_is_compared_with_the_newest_other_labels(engine: Engine, place: Path) -> None:
    found = engine.label(job_for(place / "store", place / "photos", place / "labels", "v2"), sample=12)["finished"]
    labelled = sum(count for _, count, _ in found["labels"])
    assert found["photos"] == 12 == labelled + found["statuses"].get("unreadable", 0)
    compared = found["against"]
    assert compared["version"] == "v1" and 0 < compared["shared"] <= 12
    assert all(moved[:2] == ["green", "blue"] for moved in compared["moved"])
    assert compared["differ"] == sum(moved[2] for moved in compared["moved"])


def test_candidates_are_disputed_spread_and_taken_by_the_trainer(engine: Engine, place: Path, tmp_path: Path) -> None:
    job, folder = job_for(place / "store", place / "photos", place / "labels", "v2"), tmp_path / "candidates"
    options: dict[str, Any] = {"candidates": 8, "candidates_to": str(folder), "workers": 1}
    told = engine.label(job, **options)["candidates"]
    assert (told["count"], told["lost"]) == (8, 0)
    with (folder / "candidates.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8 and {row["label"] for row in table} == {""}
    for row in table:
        content = (folder / row["image_path"]).read_bytes()
        assert content == Path(row["path"]).read_bytes()
        assert row["image_path"] == f"{hashlib.sha256(content).hexdigest()}.png"
    colours = {Path(row["path"]).name.partition("-")[0] for row in table}
    assert len(colours & set(TINY_LABELS)) >= 3  # not of the disputed colour alone
    disputed = [row for row in table if row["because"] == "the versions disagree"]
    assert disputed and all(Path(row["path"]).name.startswith("green") for row in disputed)
    assert table[0] in disputed  # what teaches most comes first

    filled = (folder / "candidates.csv").read_text().replace(".png,,train", ".png,green,train", 3)
    (folder / "candidates.csv").write_text(filled)
    listed = corrections_in(folder, place / "photos")
    assert len(listed) == 3
    with pytest.raises(Failed, match=r"^InvalidRequest: Expected a folder without candidates.csv"):
        engine.label(job, **options)
    assert (folder / "candidates.csv").read_text() == filled


def corrections_in(folder: Path, data: Path) -> list[str]:
    """What the trainer takes of the table besides a data set: the rows that people labelled."""
    import pandas as pd

    from trainer.data.corrections import with_corrections
    from trainer.data.listing import COLUMNS, Listing
    from trainer.run.sections import DataConfig

    config = DataConfig("csv", str(data), corrections=str(folder / "candidates.csv"))
    listing = with_corrections(Listing(pd.DataFrame(columns=COLUMNS), pd.DataFrame()), config)
    assert set(listing.frame["split"]) == {"train"}
    return list(listing.frame["image_path"])
