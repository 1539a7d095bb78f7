"""The search without its trainings: what is tried, what stays, what a kill leaves, what other processes may do."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from classifier.errors import Conflict, InvalidSetting, Refused, Unavailable
from tests.support import tuning_loop
from tests.support.killpoints import kill_everywhere
from tests.support.tuning_loop import CONFIG, SPACE, runs, search, without_times
from trainer.search.folder import SearchFolder, Trial, leading, start_search
from trainer.search.oracle import OBJECTIVE, hyperband_units
from trainer.search.processes import Role, read_role
from trainer.search.results import write_results
from trainer.search.space import choose_parameters
from trainer.search.tune import Search, SearchOptions, _lead, open_oracle, tune


@pytest.mark.parametrize("kind", ["random", "hyperband", "bayesian"])
def test_the_same_seed_gives_the_same_trials_and_another_other_ones(kind, tmp_path, monkeypatch):
    first = search(tmp_path / "one", kind, 6)
    assert len(first) == 6
    assert without_times(search(tmp_path / "two", kind, 6)) == without_times(first)
    monkeypatch.setattr(tuning_loop, "CONFIG", replace(CONFIG, schedule=replace(CONFIG.schedule, seed=0)))
    zero = search(tmp_path / "three", kind, 6)
    assert without_times(zero) != without_times(first)
    assert without_times(search(tmp_path / "four", kind, 6)) == without_times(zero)


@pytest.mark.parametrize("kind", ["random", "hyperband", "bayesian"])
def test_a_search_that_is_continued_tries_what_one_go_would_have_tried(kind, tmp_path):
    whole = search(tmp_path / "whole", kind, 22)
    # The number decides how Hyperband divides epochs and when the Bayesian search begins to learn: it is the same.
    parts = tmp_path / "parts"
    for last in (1, 4, 13, 22):
        started = start_search(parts, CONFIG, SPACE, kind)
        options = tuning_loop.SearchOptions(kind, 22)
        oracle = tuning_loop.open_oracle(tuning_loop.Search(CONFIG, started, SPACE, options))
        oracle.max_trials = last
        lines = tuning_loop.TrialLines(Console(file=io.StringIO()), SPACE, started)
        tuning_loop.work(
            oracle, "alone", tuning_loop.Search(CONFIG, started, SPACE, options), tuning_loop.Formula(parts), lines
        )
    assert without_times(started.trials()) == without_times(whole)
    assert runs(parts) == list(range(1, 23))


def test_hyperband_gives_most_trials_few_epochs_and_the_good_ones_all(tmp_path):
    trials = search(tmp_path / "search", "hyperband", 23)
    shares = [round(trial.share, 3) for trial in trials]
    assert shares[:13] == [0.111] * 9 + [0.333] * 3 + [1.0]
    short, full = trials[:9], trials[12]
    assert full.values == min(short, key=lambda trial: trial.loss).values
    assert [hyperband_units(count) for count in (1, 22, 23, 69, 70)] == [3, 3, 9, 9, 27]


def test_bayesian_search_learns_where_to_look(tmp_path):
    trials = search(tmp_path / "search", "bayesian", 24)
    asked, learnt = trials[:8], trials[8:]
    assert sum(trial.loss for trial in learnt) / len(learnt) < sum(trial.loss for trial in asked) / len(asked)


@pytest.mark.long
def test_a_killed_search_goes_on_from_any_moment(tmp_path):
    undisturbed = search(tmp_path / "undisturbed", max_trials=2)
    (tmp_path / "template").mkdir()
    left = kill_everywhere(
        "tests.support.tuning_loop:main", tmp_path / "template", tmp_path / "killed", "{store}", "random", "2"
    )
    assert len(left) > 20
    for folder in left[:-1]:
        before = {trial.number: trial for trial in SearchFolder(folder).trials()}
        ran = runs(folder) if (folder / ".partial-runs").exists() else []
        trials = search(folder, max_trials=2)
        assert without_times(trials) == without_times(undisturbed), folder
        # What had ended is as it was and was not run again; what was cut off was.
        assert all(trials[number - 1] == trial for number, trial in before.items()), folder
        again = runs(folder)[len(ran) :]
        assert again == [number for number in (1, 2) if number not in before], folder
        names = {path.name for path in (folder / "checkpoints").iterdir()}
        assert names == {"0001.weights.h5", "0002.weights.h5"}, folder


def test_only_the_best_checkpoints_stay(tmp_path):
    for end in range(1, 13):
        trials = search(tmp_path / "search", max_trials=end, keep=3)
        best = sorted(trials, key=lambda trial: trial.loss)[:3]
        files = sorted((tmp_path / "search" / "checkpoints").iterdir())
        assert [path.name for path in files] == sorted(f"{trial.number:04}.weights.h5" for trial in best)
        assert sum(path.stat().st_size for path in files) == 1000 * min(3, end)


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path):
    trials = search(tmp_path / "search", "bayesian", 12, fails=lambda number: number % 3 == 1)
    assert [bool(trial.failure) for trial in trials] == [True, False, False] * 4
    out = io.StringIO()
    folder = SearchFolder(tmp_path / "search")
    write_results(folder, CONFIG, SPACE, trials, Console(file=out, width=80))
    assert "The loss became nan" in folder.table.read_text().splitlines()[1]
    best = min(trials, key=lambda trial: trial.loss)
    assert f"best: trial {best.number};" in out.getvalue()
    assert json.loads(folder.best.read_text()) == SPACE.apply(CONFIG, best.values).to_json()
    all_failed = search(tmp_path / "failed", max_trials=4, fails=lambda number: True)
    with pytest.raises(Refused, match=r"None of the 4 trials has a result. The first: The loss became nan"):
        write_results(SearchFolder(tmp_path / "failed"), CONFIG, SPACE, all_failed, Console(file=out))
    assert len(SearchFolder(tmp_path / "failed").table.read_text().splitlines()) == 5


def test_no_trial_begins_after_the_time_budget(tmp_path):
    assert len(search(tmp_path / "search", max_trials=5, time_budget=1e-9)) == 0
    assert len(search(tmp_path / "search", max_trials=5, time_budget=3600)) == 5
    # What the search has taken is counted over all calls.
    saved = json.loads((tmp_path / "search" / "oracle.json").read_text())
    (tmp_path / "search" / "oracle.json").write_text(json.dumps({**saved, "spent": 4000.0}))
    assert len(search(tmp_path / "search", max_trials=9, time_budget=3600)) == 5
    assert len(search(tmp_path / "search", max_trials=9)) == 9


def test_another_search_in_the_folder_is_refused_with_the_differences(tmp_path):
    search(tmp_path / "search", max_trials=1)
    other = replace(CONFIG, network=replace(CONFIG.network, alpha=0.5))
    with pytest.raises(Refused, match=r"network.alpha: 1.0, then 0.5; search: 'random', then 'bayesian'.*--overwrite"):
        start_search(tmp_path / "search", other, SPACE, "bayesian")
    with pytest.raises(Refused, match=r"parameters: learning_rate,dropout,dense_layers,.*, then dropout\)"):
        start_search(tmp_path / "search", CONFIG, choose_parameters(CONFIG, ["dropout"]), "random")
    rows = (replace(SPACE.rows[0], values=(1e-4, 2e-2)), *SPACE.rows[1:])
    with pytest.raises(Refused, match=r"learning_rate.values: \[0.0001, 0.01\], then \[0.0001, 0.02\]"):
        start_search(tmp_path / "search", CONFIG, replace(SPACE, rows=rows), "random")
    assert start_search(tmp_path / "search", other, SPACE, "bayesian", overwrite=True).trials() == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(Refused, match="Expected an empty or new folder"):
        start_search(tmp_path / "mine", CONFIG, SPACE, "random")


def test_one_process_leads_a_search(tmp_path):
    folder = start_search(tmp_path / "search", CONFIG, SPACE, "random")
    with (
        leading(folder),
        pytest.raises(Conflict, match=r"Another `trainer` process works in .* share the search"),
        leading(folder),
    ):
        pass
    with leading(folder):
        pass


def test_a_search_that_goes_on_is_not_overwritten(tmp_path):
    trials = search(tmp_path / "search", max_trials=2)
    folder = SearchFolder(tmp_path / "search")
    with leading(folder), pytest.raises(Conflict, match=r"Another `trainer` process works in .* share the search"):
        tune(CONFIG, folder.path, SPACE, SearchOptions(overwrite=True), Role("alone"), Console(file=io.StringIO()))
    assert folder.trials() == trials
    assert folder.oracle.is_file()


def test_a_chief_that_finds_its_search_complete_waits_for_nobody(tmp_path):
    assert len(search(tmp_path / "search", max_trials=2)) == 2
    found = SearchFolder(tmp_path / "search")
    for options, over in (
        ({"max_trials": 2}, True), ({"max_trials": 3}, False), ({"max_trials": 3, "time_budget": 1e-9}, True),
    ):  # fmt: skip
        oracle = open_oracle(Search(CONFIG, found, SPACE, SearchOptions(**options)))
        assert oracle.over == over
    # One that was going on when the search was killed is handed out again.
    oracle = open_oracle(Search(CONFIG, found, SPACE, SearchOptions(max_trials=3)))
    oracle.create_trial("a")
    assert not oracle.over
    assert not open_oracle(Search(CONFIG, found, SPACE, SearchOptions(max_trials=3))).over
    said = io.StringIO()
    oracle = open_oracle(Search(CONFIG, found, SPACE, SearchOptions(max_trials=1)))
    oracle._retry_queue = []
    _lead(oracle, Role("chief", "chief", "127.0.0.1:1"), SearchOptions(), None, Console(file=said))
    assert "the search is complete" in said.getvalue()


def test_a_worker_that_finds_its_search_complete_waits_for_nobody(tmp_path, monkeypatch):
    def no_chief(role):
        raise Unavailable(f"asked for {role.address}")

    monkeypatch.setattr("trainer.search.tune.connect", no_chief)

    def said_by_worker(config=CONFIG, **options) -> str:
        said = io.StringIO()
        role = Role("worker", "a", "127.0.0.1:1")
        assert tune(config, folder.path, SPACE, SearchOptions(**options), role, Console(file=said)) == trials
        return said.getvalue()

    folder, trials = SearchFolder(tmp_path / "search"), []
    with pytest.raises(Unavailable):
        said_by_worker(max_trials=2)
    trials = search(folder.path, max_trials=2)
    before = folder.oracle.read_bytes()
    assert said_by_worker(max_trials=2).startswith("the search is complete")
    assert folder.oracle.read_bytes() == before
    # A chief would go on, start again, or be asked for another search.
    other = replace(CONFIG, schedule=replace(CONFIG.schedule, seed=4))
    for options in ({"max_trials": 3}, {"max_trials": 2, "overwrite": True}, {"max_trials": 2, "config": other}):
        with pytest.raises(Unavailable, match=r"asked for 127\.0\.0\.1:1"):
            said_by_worker(**options)


def test_a_slow_worker_whose_trial_went_to_another_changes_nothing(tmp_path):
    folder = SearchFolder(tmp_path / "search")
    assert len({folder.work(1, name) for name in ("a", "b", "../b", "a/b")}) == 4
    assert all(folder.work(1, name).parent == folder.path / "work" for name in ("a", "../b", "a/b"))
    other = Trial(1, {}, 1.0, "b", {OBJECTIVE: 0.5, "val_accuracy": 1.0, "val_log_loss": 0.5, "epochs": 1.0})

    def replaced(number):
        if number == 1:
            folder.checkpoint(1).parent.mkdir()
            folder.checkpoint(1).write_bytes(b"of b")
            folder.keep(other, 3)
        return False

    trials = search(folder.path, max_trials=2, fails=replaced)
    assert [trial.worker for trial in trials] == ["b", "alone"]
    assert trials[0] == other
    assert folder.checkpoint(1).read_bytes() == b"of b"
    # What the oracle learns is what was recorded.
    saved = json.loads(folder.oracle.read_text())
    assert saved["trials"][0]["score"] == 0.5


def test_features_of_a_search_without_a_trial_are_not_taken_over(tmp_path):
    folder = start_search(tmp_path, CONFIG, SPACE, "random")
    folder.photos.features.touch()
    assert start_search(tmp_path, CONFIG, SPACE, "random").photos.features.exists()
    other = replace(CONFIG, network=replace(CONFIG.network, alpha=0.5))
    assert not start_search(tmp_path, other, SPACE, "random").photos.features.exists()


def test_the_role_comes_from_keras_tuners_settings():
    settings = {
        "KERASTUNER_TUNER_ID": "chief", "KERASTUNER_ORACLE_IP": "10.0.0.1", "KERASTUNER_ORACLE_PORT": "8000",
    }  # fmt: skip
    assert read_role({}) == Role("alone")
    assert read_role(settings) == Role("chief", "chief", "10.0.0.1:8000")
    assert read_role(settings | {"KERASTUNER_TUNER_ID": "a"}) == Role("worker", "a", "10.0.0.1:8000")
    with pytest.raises(InvalidSetting, match="Expected KERASTUNER_ORACLE_PORT with KERASTUNER_TUNER_ID and"):
        read_role({name: settings[name] for name in list(settings)[:2]})
    with pytest.raises(InvalidSetting, match="to be a port; received 'x'"):
        read_role(settings | {"KERASTUNER_ORACLE_PORT": "x"})
