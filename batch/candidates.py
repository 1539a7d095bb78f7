"""The photos whose labelling would teach most: uncertain, unlike the training data, disputed, and unlike each other.

What is uncertain, unlike or disputed is shortlisted by the labels that are there. Of the shortlist, k-means clusters of
the network's features give one photo each: batches of the most uncertain photos alone are full of near duplicates
(Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach").
"""

from __future__ import annotations

import csv
import heapq
import io
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batch.features import features_of
from batch.job import Job
from batch.listing import Photo, read
from batch.output import Output
from batch.pairs import Answer, Pairs
from batch.plan import Plan, place
from classifier.errors import InvalidRequest, NotFound, PointerError
from classifier.photo.limits import Limits
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORTLIST = 10
"""Photos that are looked at again, for each one that is wanted."""
ROUNDS = 10
"""Of k-means: the clusters need not be the best ones."""
TABLE = "candidates.csv"
COLUMNS = ("image_path", "label", "split", "predicted", "confidence", "score", "teaches", "because", "cluster", "path")
"""What the trainer takes comes first; `label` is for people to fill in."""


class Candidate(NamedTuple):
    """A photo with what makes it worth a label."""

    uncertainty: float
    """1 less the margin between the two most probable labels, 0 to 1 (margin sampling, Scheffer et al. 2001)."""
    unlike: float
    """1 less the score, 0 to 1."""
    disputed: bool
    """Whether the other version says otherwise."""
    answer: Answer

    @property
    def teaches(self) -> float:
        """The sum of the three, 0 to 3."""
        return self.uncertainty + self.unlike + self.disputed


def choose(
    job: Job,
    output: Output,
    plan: Plan,
    count: int,
    folder: Path,
    against: str,
    workers: int,
    tell: Callable[..., None],
) -> None:
    """Choose photos among those that are listed and labelled, and write them with a table into a folder.

    Args:
        job: the labelling.
        output: where the labels are.
        plan: the photos that count.
        count: how many are wanted.
        folder: gets the photos and `TABLE`.
        against: another version whose labels are compared; "" for none.
        workers: photos that are looked at at the same time.
        tell: gets the event "candidates".

    Raises:
        NotFound: there is nothing to choose from.
        InvalidRequest: the folder cannot be written.
    """
    with Pairs() as pairs:
        pairs.add("after", output, job.version)
        if against:
            pairs.add("before", output, against)
        rows = (
            candidate(before, after)
            for before, after in pairs.after()
            if after.label is not None and plan.has(after.path, after.generation)
        )
        shortlist = heapq.nlargest(SHORTLIST * count, rows, key=lambda each: (each.teaches, place(each.answer.path)))
    registry = Registry(open_store(job.store), job.model)
    manifest = registry.manifest_at(job.pointer)
    photos = [Photo(each.answer.path, each.answer.generation, -1) for each in shortlist]
    limits = Limits(job.max_image_bytes, job.max_image_pixels)
    seen = [
        (each, features)
        for each, (_, features) in zip(
            shortlist,
            features_of(registry, manifest, photos, workers=workers, limits=limits, project=job.billing_project),
            strict=True,
        )
        if features is not None
    ]
    if not seen:
        raise NotFound("Expected labelled photos that are still there, to choose candidates from; there are none.")
    clusters = kmeans(np.stack([features for _, features in seen]), count)
    chosen = spread([each for each, _ in seen], clusters, count)
    written = write(folder, chosen, job.billing_project)
    tell("candidates", count=written, shortlist=len(seen), lost=len(shortlist) - len(seen), folder=str(folder))


def candidate(before: Answer | None, after: Answer) -> Candidate:
    """Say what makes a photo worth a label."""
    first, second = (*sorted(after.top_k.values(), reverse=True), 0.0)[:2]
    disputed = before is not None and before.sha256 == after.sha256 and before.label not in (None, after.label)
    return Candidate(1 - (first - second), 1 - (after.score or 0.0), disputed, after)


def kmeans(features: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the cluster [photos] of each row of features [photos, n], of at most `count`; Lloyd's algorithm.

    It begins with the rows that are farthest from each other, greedily, which makes it repeatable.
    """
    squares = (features**2).sum(axis=1)

    def distances(centres: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(squares[:, None] - 2 * features @ centres.T + (centres**2).sum(axis=1)[None])

    chosen = [0]
    nearest = distances(features[:1])[:, 0]
    while len(chosen) < min(count, len(features)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distances(features[chosen[-1:]])[:, 0])
    centres = features[chosen].copy()
    for _ in range(ROUNDS):
        clusters = distances(centres).argmin(axis=1)
        for number in np.unique(clusters):
            centres[number] = features[clusters == number].mean(axis=0)
    return np.asarray(distances(centres).argmin(axis=1), np.int64)


def spread(candidates: list[Candidate], clusters: NDArray[np.int64], count: int) -> list[tuple[Candidate, int]]:
    """Take the photo that teaches most of each cluster, then the second of each, until there are enough."""
    order = sorted(range(len(candidates)), key=lambda index: -candidates[index].teaches)
    taken: dict[int, int] = {}
    turns: list[tuple[int, int, int]] = []
    for index in order:
        cluster = int(clusters[index])
        turns.append((taken.get(cluster, 0), len(turns), index))
        taken[cluster] = taken.get(cluster, 0) + 1
    return [(candidates[index], int(clusters[index])) for _, _, index in sorted(turns)[:count]]


def write(folder: Path, chosen: Iterable[tuple[Candidate, int]], billing_project: str) -> int:
    """Write the photos and the table, which comes last: each photo that it names is whole. Returns how many they are.

    Raises:
        InvalidRequest: the folder cannot be written, or has a table already, which people may have filled in.
    """
    if (folder / TABLE).exists():
        raise InvalidRequest(f"Expected a folder without {TABLE} for the candidates; {folder} has one: name another.")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each, cluster in chosen:
            answer = each.answer
            try:
                content = read(Photo(answer.path, answer.generation, -1), billing_project)
            except PointerError:  # gone since it was looked at
                continue
            count += 1
            name = f"{answer.sha256}{PurePosixPath(answer.path).suffix.lower() or '.photo'}"
            (folder / name).write_bytes(content)
            writer.writerow(
                (name, "", "train", answer.label, answer.confidence, answer.score, f"{each.teaches:.3f}", because(each),
                 cluster, answer.path)
            )  # fmt: skip
        (folder / f"{TABLE}.partial").write_text(table.getvalue(), encoding="utf-8")
        (folder / f"{TABLE}.partial").replace(folder / TABLE)
    except OSError as error:
        raise InvalidRequest(f"Expected a folder that can be written; {error.filename}: {error.strerror}.") from error
    return count


def because(candidate: Candidate) -> str:
    """Say what makes a photo worth a label most."""
    if candidate.disputed:
        return "the versions disagree"
    return "uncertain" if candidate.uncertainty >= candidate.unlike else "unlike the training data"
