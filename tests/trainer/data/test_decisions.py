"""Decisions over an audit: labels that change and photos that are left out, recorded with the run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound, Refused
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from trainer.data.decisions import read_decisions, require_undecided
from trainer.data.loaders import list_photos
from trainer.data.preparation import prepare_photos
from trainer.run.config import TrainingConfig
from trainer.run.files import read_json
from trainer.run.sections import DataConfig, NetworkConfig, ScheduleConfig
from trainer.run.starting import start_run

HEAD = "image_path,label,suggested_label,decision,reason,split\n"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return photo_sets.folder(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def decided(photos, tmp_path):
    """Writes a table of decisions, and returns the configuration of the data set with it."""

    def write(*rows: str, option: str = "corrections", **changes) -> DataConfig:
        table = tmp_path / "decisions.csv"
        table.write_text(HEAD + "".join(f"{row}\n" for row in rows))
        return DataConfig("folder", str(photos), **{option: str(table), **changes})

    return write


@pytest.mark.parametrize("option", ["corrections", "decisions"])
def test_labels_change_and_photos_go_while_the_others_keep_their_split(decided, photos, option):
    plain = list_photos(DataConfig("folder", str(photos))).frame.set_index("image_path")
    data = decided(
        "apple/0.png,apple,leaf,Relabel,looks like leaf,train", "sky/1.png,sky,,drop,no sky,train",
        "leaf/3.png,leaf,sky,keep,,train",
        option=option,
    )  # fmt: skip
    listing = list_photos(data)
    frame = listing.frame.set_index("image_path")
    assert frame.loc["apple/0.png", "label"] == "leaf"
    assert sorted(set(plain.index) - set(frame.index)) == ["sky/1.png"]
    assert (frame["split"] == plain.loc[frame.index, "split"]).all()
    others = frame.index.drop("apple/0.png")
    assert (frame.loc[others, "label"] == plain.loc[others, "label"]).all()
    assert listing.left_out["reason"].tolist() == ["dropped by a decision: no sky"]
    assert "decisions.csv: 1 photo relabelled, 1 left out" in listing.notes


def test_test_photos_stay_as_they_are_unless_that_is_asked_for(decided, photos):
    """A version is compared with the one before on the same photos; docs/operations.md says so."""
    plain = list_photos(DataConfig("folder", str(photos))).frame
    path, label, _ = plain[plain["split"] == "test"].iloc[0]
    other = next(each for each in ("apple", "leaf", "sky") if each != label)
    dropped, its_label, _ = plain[plain["split"] == "test"].iloc[1]
    rows = (f"{path},{label},{other},relabel,,test", f"{dropped},{its_label},,drop,,test")
    listing = list_photos(decided(*rows))
    assert listing.frame.equals(plain)
    assert [note for note in listing.notes if "2 of its decisions are about test photos" in note and path in note]
    frame = list_photos(decided(*rows, decide_test=True)).frame.set_index("image_path")
    assert (frame.loc[path, "label"], dropped in frame.index) == (other, False)


def test_what_no_longer_fits_is_passed_over_and_told(decided):
    listing = list_photos(
        decided("apple/0.png,leaf,sky,relabel,,", "apple/99.png,apple,,drop,,", "apple/1.png,apple,leaf,relabel,,")
    )
    frame = listing.frame.set_index("image_path")
    assert (frame.loc["apple/0.png", "label"], frame.loc["apple/1.png", "label"]) == ("apple", "leaf")
    (told,) = [note for note in listing.notes if note.startswith("warning: 2 of its decisions are passed over")]
    assert "apple/0.png" in told and "apple/99.png" in told


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["apple/0.png,apple,leaf,maybe,,"], "Expected keep, relabel or drop as the decision about apple/0.png"),
        (["apple/0.png,apple,,relabel,,"], "Expected a suggested_label to relabel apple/0.png"),
        (["apple/0.png,apple,laef,relabel,,"], "received 'laef', which no photo has"),
        (["apple/0.png,apple,leaf,relabel,,", "apple/0.png,apple,sky,relabel,,"], "received two that differ"),
        (["a.png,apple,,drop,,"], "Is it the table of another data set"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(decided, rows, message):
    with pytest.raises(InvalidRequest, match=message):
        list_photos(decided(*rows))


def test_of_some_classes_a_photo_of_another_one_is_left_out(decided):
    data = decided("apple/0.png,apple,leaf,relabel,,", classes=("apple", "sky"))
    assert "relabelled leaf, which is not asked for" in list_photos(data).left_out["reason"].iloc[0]


def test_there_is_one_table(decided, tmp_path):
    data = decided("apple/0.png,apple,,drop,,", decisions=str(tmp_path / "decisions.csv"))
    with pytest.raises(InvalidRequest, match="one table of decisions"):
        list_photos(data)
    with pytest.raises(NotFound):
        list_photos(DataConfig("folder", data.data_dir, decisions=str(tmp_path / "none.csv")))


def test_the_run_records_them_and_is_not_resumed_with_others(decided, tmp_path):
    def prepare(data):
        config = TrainingConfig(data, NetworkConfig("base_cnn", "none", image_size=32), ScheduleConfig())
        run = start_run(tmp_path / "run", config)
        spec = InputSpec(width=32, height=32, resize="stretch")
        return run, prepare_photos(config, spec, run, Console(file=io.StringIO()))

    frame = list_photos(decided()).frame
    paths = frame.loc[frame["split"] == "train", "image_path"].drop_duplicates()
    # More than --max-rejected allows: on purpose, so that it has no say.
    moved = next(path for path in paths if path.startswith("apple/"))
    chosen = [path for path in paths if path != moved][::2]
    dropped = [f"{path},{path.split('/')[0]},,drop,," for path in chosen]
    run, photos = prepare(decided(f"{moved},apple,leaf,relabel,,", *dropped))
    assert read_json(run.summary)["decisions"] == {"relabel": 1, "drop": len(dropped)}
    assert len(photos.rejected) == len(dropped) > 6 and len(photos.frame) == 30 - len(dropped)
    assert {each.decision for each in read_decisions(run.decisions).values()} == {"relabel", "drop"}
    prepare(decided(f"{moved},apple,leaf,relabel,,", *dropped))
    with pytest.raises(Refused, match=rf"1 in another class or split \({moved}\)"):
        prepare(decided(*dropped))


def test_decisions_that_were_made_are_not_written_over(decided, tmp_path):
    table = tmp_path / "decisions.csv"
    require_undecided(table)
    decided("apple/0.png,apple,leaf,keep,,")
    require_undecided(table)
    decided("apple/0.png,apple,leaf,drop,,")
    with pytest.raises(Refused, match="--overwrite"):
        require_undecided(table)
