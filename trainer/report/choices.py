"""Which photos the report shows: picked from the evaluation by rule, so that the same run shows the same ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trainer.evaluation.served import Evaluation


def samples(truth: NDArray[np.int32], classes: int, count: int, seed: int = 0) -> NDArray[np.intp]:
    """Return positions of about `count` photos, as many of each class as there is room for, class after class.

    Of more than `count` classes, evenly spread ones have one photo each.
    """
    rng = np.random.default_rng(seed)
    known = np.intersect1d(np.arange(classes), truth)
    shown = known[_spread(len(known), count)]
    each = max(1, count // max(1, len(shown)))
    drawn = [rng.permutation(np.flatnonzero(truth == number))[:each] for number in shown]
    return np.concatenate([np.sort(few) for few in drawn]) if drawn else np.empty(0, np.intp)


def predictions(evaluation: Evaluation, count: int, seed: int = 0) -> NDArray[np.intp]:
    """Return positions of `count` photos drawn at random, right and wrong as they come."""
    order = np.random.default_rng(seed).permutation(len(evaluation.truth))
    return np.sort(order[:count])


def worst_mistakes(evaluation: Evaluation, count: int) -> NDArray[np.intp]:
    """Return positions of the wrong predictions, most confident first."""
    wrong = np.flatnonzero(evaluation.predicted != evaluation.truth)
    confidence = evaluation.probabilities.max(axis=1)[wrong]
    return wrong[np.argsort(-confidence, kind="stable")][:count]


def confused_pairs(evaluation: Evaluation, count: int) -> pd.DataFrame:
    """Return pairs of classes by how often one was taken for the other, either way.

    Returns:
        ``first``, ``second`` (class numbers), ``first_as_second``, ``second_as_first``, ``photos`` (of both classes),
        most mistakes first.
    """
    counts = evaluation.confusion_matrix().to_numpy()
    both = np.triu(counts + counts.T, 1)
    first, second = np.nonzero(both)
    order = np.argsort(-both[first, second], kind="stable")[:count]
    first, second = first[order], second[order]
    of_class = counts.sum(axis=1)
    return pd.DataFrame(
        {
            "first": first,
            "second": second,
            "first_as_second": counts[first, second],
            "second_as_first": counts[second, first],
            "photos": of_class[first] + of_class[second],
        }
    )


def photos_of_pair(evaluation: Evaluation, first: int, second: int, count: int) -> NDArray[np.intp]:
    """Return positions of photos of one class that were taken for the other, either way, most confident first."""
    truth, predicted = evaluation.truth, evaluation.predicted
    taken = ((truth == first) & (predicted == second)) | ((truth == second) & (predicted == first))
    positions = np.flatnonzero(taken)
    confidence = evaluation.probabilities.max(axis=1)[positions]
    return positions[np.argsort(-confidence, kind="stable")][:count]


def explained(evaluation: Evaluation, count: int) -> NDArray[np.intp]:
    """Return positions to explain: mostly right ones of different classes, and the most confident mistakes."""
    wrong = worst_mistakes(evaluation, max(1, count // 3))
    confidence = evaluation.probabilities.max(axis=1)
    right = np.flatnonzero(evaluation.predicted == evaluation.truth)
    best = [
        of_class[np.argsort(-confidence[of_class], kind="stable")[len(of_class) // 2]]
        for number in np.unique(evaluation.truth[right])
        for of_class in [right[evaluation.truth[right] == number]]
    ]
    chosen = np.array(best, np.intp)[_spread(len(best), count - len(wrong))]
    return np.concatenate([chosen, wrong])


def _spread(length: int, count: int) -> NDArray[np.intp]:
    """Return at most `count` of the positions 0 to length - 1, evenly spread."""
    return np.unique(np.linspace(0, max(0, length - 1), min(count, length)).astype(np.intp))
