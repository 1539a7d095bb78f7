"""A search's folder: what is in it, written so that a search can be killed at any moment and goes on.

search.json      what was asked for: the configuration, the space, the kind of search
oracle.json      the state of Keras Tuner's oracle: which values come next
trials/          a file for each trial that has ended: values, figures, or why it failed
work/            the trainings that are going on
checkpoints/     weights of the best trials
trials.csv, trials.png, best.json    the result
data.csv, data.json, rejected.csv, features.npz    as in a run's folder
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from classifier.errors import InvalidSetting, NotFound, Refused
from trainer.run.config import TrainingConfig
from trainer.run.files import PARTIAL, read_json, write_json
from trainer.run.folder import RunFolder
from trainer.run.locks import locked, only_one, require_own
from trainer.search.space import Space, Value

OBJECTIVE = "val_calibrated_log_loss"
"""What a search makes small: the merit of an epoch in training, see `trainer.training.checkpoints.merit`."""


@dataclass(frozen=True)
class Trial:
    """One trial that has ended."""

    number: int
    """From 1."""
    values: dict[str, Value]
    """By parameter; those without a meaning in this trial are missing."""
    seconds: float
    worker: str
    figures: dict[str, float]
    """Of the best epoch: `OBJECTIVE`, ``val_accuracy``, ``val_log_loss``, ``epochs``; none if it failed."""
    failure: str = ""
    """Why it failed."""
    share: float = 1.0
    """Of the epochs asked for that it was given, by Hyperband."""

    @property
    def loss(self) -> float:
        """What is compared: infinite where the trial failed."""
        return self.figures.get(OBJECTIVE, math.inf)


@dataclass(frozen=True)
class SearchFolder:
    """The paths of one search."""

    path: Path

    @property
    def search(self) -> Path:
        """What was asked for."""
        return self.path / "search.json"

    @property
    def oracle(self) -> Path:
        """The state of Keras Tuner's oracle."""
        return self.path / "oracle.json"

    @property
    def table(self) -> Path:
        """The trials as a table."""
        return self.path / "trials.csv"

    @property
    def plot(self) -> Path:
        """The trials as a picture."""
        return self.path / "trials.png"

    @property
    def best(self) -> Path:
        """The best trial's configuration."""
        return self.path / "best.json"

    @property
    def photos(self) -> RunFolder:
        """The tables of photos and the cached features."""
        return RunFolder(self.path)

    def record(self, number: int) -> Path:
        """The result of a trial."""
        return self.path / "trials" / f"{number:04}.json"

    def checkpoint(self, number: int) -> Path:
        """The weights of a trial."""
        return self.path / "checkpoints" / f"{number:04}.weights.h5"

    def work(self, number: int, worker: str) -> Path:
        """The folder of a trial that is going on: each worker has one of its own, also where one was only slow."""
        return self.path / "work" / f"{number:04}-{quote(worker, safe='')}"

    def works(self, number: int) -> list[Path]:
        """Return the folders of a trial, of all workers."""
        return sorted((self.path / "work").glob(f"{number:04}-*"))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep other workers from recording a trial at the same time."""
        with locked(self.path / f"{PARTIAL}recording"):
            yield

    def trial(self, number: int) -> Trial | None:
        """Return a trial if it has ended."""
        return Trial(**read_json(self.record(number))) if self.record(number).is_file() else None

    def trials(self) -> list[Trial]:
        """Return the trials that have ended, by number."""
        files = sorted((self.path / "trials").glob("[0-9]*.json"))
        return sorted((Trial(**read_json(file)) for file in files), key=lambda trial: trial.number)

    def keep(self, trial: Trial, best: int) -> None:
        """Record a trial, and remove the checkpoints of all but the best trials."""
        write_json(self.record(trial.number), asdict(trial))
        self.prune(best)

    def prune(self, best: int) -> None:
        """Remove the checkpoints of all but the best trials."""
        for trial in ranking(self.trials())[best:]:
            self.checkpoint(trial.number).unlink(missing_ok=True)

    def ranks(self, loss: float, best: int) -> bool:
        """Return whether a trial with this loss is among the best so far."""
        return math.isfinite(loss) and sum(trial.loss <= loss for trial in self.trials()) < best


def ranking(trials: list[Trial]) -> list[Trial]:
    """Return trials from the best to the worst; the failed ones are last."""
    return sorted(trials, key=lambda trial: (trial.loss, trial.number))


def start_search(
    path: Path, config: TrainingConfig, space: Space, kind: str, *, overwrite: bool = False
) -> SearchFolder:
    """Return a new search's folder, or the folder of the same search that was interrupted.

    Raises:
        Refused: the folder holds another search, or something that is not a search.
    """
    folder = SearchFolder(path)
    require_own(path, folder.search)
    if folder.search.is_file():
        differences = _differences(folder, config, space, kind)
        if not overwrite and not differences:
            return folder
        if not overwrite and folder.oracle.exists():
            raise Refused(
                f"{path} holds another search ({'; '.join(differences)}). "
                "Give another --run folder, the same options to resume it, or --overwrite to start again."
            )
        # Also where no trial had begun: features of another network may be there.
        _clear(folder)
    asked = {"config": config.to_json(), "space": space.to_json(), "heads_only": space.heads_only, "search": kind}
    write_json(folder.search, asked)
    return folder


def join_search(path: Path, config: TrainingConfig, space: Space, kind: str) -> SearchFolder:
    """Return the folder of a search that a chief has started.

    Raises:
        NotFound: it has none in this folder.
        Refused: it has another one.
    """
    folder = SearchFolder(path)
    if not folder.search.is_file():
        raise NotFound(
            f"Expected the chief's search in {path}; there is none. Chief and workers share one --run folder."
        )
    differences = _differences(folder, config, space, kind)
    if differences:
        raise Refused(f"The chief's search in {path} is another one ({'; '.join(differences)}): give the same options.")
    return folder


def leading(folder: SearchFolder) -> AbstractContextManager[None]:
    """Keep a second process from leading the same search; see `only_one`."""
    return only_one(folder.path, folder.search, "or share the search between workers: `trainer tune --help` says how")


def _differences(folder: SearchFolder, config: TrainingConfig, space: Space, kind: str) -> list[str]:
    """Return a line for everything in which a search differs from the one that is asked for now."""
    saved = read_json(folder.search)
    try:
        lines = TrainingConfig.from_json(saved["config"]).differences(config)
        rows, former, heads_only = saved["space"], saved["search"], saved["heads_only"]
    except (InvalidSetting, KeyError, TypeError) as error:
        raise Refused(f"{folder.search} is not a search's description: {error} Give another --run folder.") from error
    if former != kind:
        lines.append(f"search: {former!r}, then {kind!r}")
    if heads_only != space.heads_only:
        lines.append(f"backbone trained: {not heads_only}, then {not space.heads_only}")
    before, after = ({row["name"]: row for row in table} for table in (rows, space.to_json()))
    if list(before) != list(after):
        lines.append(f"parameters: {','.join(before)}, then {','.join(after)}")
    lines += [
        f"{name}.{field}: {before[name].get(field)!r}, then {value!r}"
        for name, row in after.items()
        if name in before
        for field, value in row.items()
        if before[name].get(field) != value
    ]
    return lines


def _clear(folder: SearchFolder) -> None:
    """Remove what a search owns, its state first."""
    run = folder.photos
    files = (folder.oracle, folder.table, folder.plot, folder.best, run.summary, run.data, run.rejected, run.features)
    for file in files:
        file.unlink(missing_ok=True)
    for name in ("trials", "work", "checkpoints"):
        # What cannot be removed would be taken for a part of the new search.
        if (folder.path / name).exists():
            shutil.rmtree(folder.path / name)
