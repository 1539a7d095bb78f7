"""Decisions about a data set's own photos, made over what `trainer audit` lists: another label, or not used at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from classifier.errors import InvalidRequest, Refused
from classifier.labels import trimmed
from classifier.wording import plural
from trainer.data.listing import COLUMNS, Listing
from trainer.data.subsets import has_subset
from trainer.data.tables import read_table
from trainer.run.sections import DataConfig

DECISION_COLUMNS = ("image_path", "label", "suggested_label", "decision", "reason", "split")
"""Of the table that `trainer audit` writes; the first four are needed."""
KEEP, RELABEL, DROP = "keep", "relabel", "drop"
DROPPED = "dropped by a decision"
"""How the reason of a photo begins that is left out on purpose."""
SHOWN = 3
"""How many paths a message names."""


class Decision(NamedTuple):
    """What was decided of one photo."""

    label: str
    """That it had when it was looked at."""
    suggested: str
    decision: str
    reason: str


def is_of_decisions(table: Path) -> bool:
    """Return whether a table has decisions, and not photos to train on besides.

    Raises:
        NotFound: there is no such table.
        InvalidRequest: it is none.
    """
    return "decision" in read_table(table, ["image_path", "label"]).frame


def decisions_of(config: DataConfig) -> Path | None:
    """Return the table of decisions that a configuration names, with ``--decisions`` or ``--corrections``.

    Raises:
        InvalidRequest: both name one.
    """
    named = Path(config.decisions) if config.decisions else None
    if config.corrections and is_of_decisions(Path(config.corrections)):
        if named is not None:
            raise InvalidRequest(
                "Expected one table of decisions; received two, with --decisions and --corrections. Put all decisions "
                "into one."
            )
        return Path(config.corrections)
    return named


def read_decisions(table: Path) -> dict[str, Decision]:
    """Return the decisions of a table by path.

    Raises:
        NotFound: there is no such table.
        InvalidRequest: it is none, or a row is not complete, or two rows decide otherwise about one photo.
    """
    frame = read_table(table, list(DECISION_COLUMNS[:4])).frame
    found: dict[str, Decision] = {}
    for column in DECISION_COLUMNS[:5]:
        frame[column] = frame[column].fillna("").str.strip() if column in frame else ""
    for row in frame.itertuples():
        decision = Decision(trimmed(row.label), trimmed(row.suggested_label), row.decision.lower(), row.reason)
        if decision.decision not in (KEEP, RELABEL, DROP):
            raise InvalidRequest(
                f"Expected keep, relabel or drop as the decision about {row.image_path} in {table}; received "
                f"{row.decision!r}."
            )
        if decision.decision == RELABEL and not decision.suggested:
            raise InvalidRequest(f"Expected a suggested_label to relabel {row.image_path} in {table}; received none.")
        before = found.setdefault(row.image_path, decision)
        if before[1:3] != decision[1:3]:
            raise InvalidRequest(f"Expected one decision about {row.image_path} in {table}; received two that differ.")
    return found


def with_decisions(listing: Listing, config: DataConfig) -> Listing:
    """Give photos the labels that were decided on, and leave out those to be dropped, after the splits were drawn.

    So every other photo keeps its split. Test photos stay as they are unless ``config.decide_test``, so that a version
    is compared with the one before on the same ones; how many decisions that concerns is told. What was decided of a
    photo that has another label by now, or is not there, is passed over and told of.

    Raises:
        NotFound: there is no such table.
        InvalidRequest: it is none, no photo of the data set is in it, or it has a label that no photo has.
    """
    table = decisions_of(config)
    if table is None:
        return listing
    decisions = {path: each for path, each in read_decisions(table).items() if each.decision != KEEP}
    frame = listing.frame.copy()
    known = set(frame["label"])
    dropped: list[tuple[str, str, str, str]] = []
    gone = set(decisions) - set(frame["image_path"])
    if decisions and len(gone) == len(decisions) and not has_subset(config) and config.max_per_class is None:
        raise InvalidRequest(
            f"Expected decisions about photos of {config.data_dir} in {table}; it has none of them, but "
            f"{', '.join(sorted(gone)[:SHOWN])}. Is it the table of another data set?"
        )
    counts: Counter[str] = Counter()
    passed, untouched = sorted(gone), []
    for row, path, label, split in zip(frame.index, *(frame[column] for column in COLUMNS), strict=True):
        decision = decisions.get(path)
        if decision is None or (decision.decision == RELABEL and label == decision.suggested):
            continue
        if label != decision.label:
            passed.append(path)
        elif split == "test" and not config.decide_test:
            untouched.append(path)
        elif decision.decision == DROP:
            dropped.append((path, label, split, f"{DROPPED}: {decision.reason or 'no reason given'}"))
        elif decision.suggested in known:
            frame.at[row, "label"] = decision.suggested
            counts[RELABEL] += 1
        elif has_subset(config):
            dropped.append((path, label, split, f"{DROPPED}: relabelled {decision.suggested}, which is not asked for"))
        else:
            raise InvalidRequest(
                f"Expected a label of the data set for {path} in {table}; received {decision.suggested!r}, which no "
                "photo has."
            )
    frame = frame[~frame["image_path"].isin([path for path, *_ in dropped])].reset_index(drop=True)
    left_out = pd.concat([listing.left_out, pd.DataFrame(dropped, columns=[*COLUMNS, "reason"], dtype=object)])
    notes = [f"{table.name}: {plural(counts[RELABEL], 'photo')} relabelled, {len(dropped)} left out"]
    if untouched:
        notes.append(
            f"{len(untouched)} of its decisions are about test photos, which stay as they are ({_few(untouched)}); "
            "--decide-test changes them too"
        )
    if passed:
        notes.append(
            f"warning: {len(passed)} of its decisions are passed over, because the photo is not there or has another "
            f"label than when it was decided on: {_few(passed)}"
        )
    return replace(listing, frame=frame, left_out=left_out.reset_index(drop=True), notes=(*listing.notes, *notes))


def _few(paths: list[str]) -> str:
    return ", ".join(paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")


def require_undecided(table: Path) -> None:
    """Refuse to write over decisions that somebody has made.

    Raises:
        Refused: the table is there, and one of its decisions is not to keep the photo.
    """
    if table.is_file() and any(each.decision != KEEP for each in read_decisions(table).values()):
        raise Refused(f"{table} has decisions that somebody made. Give another --out folder, or --overwrite.")


def counted(decisions: Mapping[str, Decision]) -> dict[str, int]:
    """Return how many photos are to be relabelled and dropped."""
    counts = Counter(each.decision for each in decisions.values())
    return {RELABEL: counts[RELABEL], DROP: counts[DROP]}


def to_table(decisions: Mapping[str, Decision]) -> pd.DataFrame:
    """Return the decisions that change something as a table that `read_decisions` reads."""
    rows = [(path, *each) for path, each in sorted(decisions.items()) if each.decision != KEEP]
    return pd.DataFrame(rows, columns=list(DECISION_COLUMNS[:5]), dtype=object)
