"""Labels that are probably wrong: confident learning on predictions of models that have not seen the photo.

Written out here, because it is a dozen lines; the tests compare them with the library cleanlab.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from classifier.errors import InvalidRequest

FOLDS = 5
COMPONENTS = 256
"""Principal components of the features: more find no more swapped labels, and take longer."""
REGULARISATION = 0.01
"""scikit-learn's C: small, because a model that could learn wrong labels would hide them."""


def cross_validated(
    features: NDArray[np.floating[Any]], labels: NDArray[np.intp], groups: NDArray[np.intp], seed: int
) -> NDArray[np.float64]:
    """Return the probabilities [photos, classes] that a logistic regression gives photos that it was not trained on.

    Args:
        features: [photos, channels].
        labels: class numbers [photos], without gaps.
        groups: [photos]; photos of one group are in the same fold: a near duplicate would give a wrong label away.
        seed: of the folds.

    Raises:
        InvalidRequest: there is one class, or a class has one group only.
    """
    counts = [len(np.unique(groups[labels == each])) for each in range(int(labels.max()) + 1)]
    if len(counts) < 2 or min(counts) < 2:
        raise InvalidRequest(
            f"Expected two classes or more with two different photos each; received {len(counts)}, the smallest with "
            f"{min(counts)}."
        )
    inputs = _reduced(features, seed)
    probabilities = np.zeros((len(labels), len(counts)))
    folds = StratifiedGroupKFold(min(FOLDS, *counts), shuffle=True, random_state=seed)
    for train, held_out in folds.split(inputs, labels, groups):
        model = LogisticRegression(C=REGULARISATION, max_iter=1000, tol=1e-3).fit(inputs[train], labels[train])
        probabilities[np.ix_(held_out, model.classes_)] = model.predict_proba(inputs[held_out])
    return probabilities


def confident_labels(probabilities: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the class that each photo confidently belongs to, [photos]; -1 where none is sure enough.

    A photo confidently belongs to a class if its probability reaches the mean probability of that class among the
    photos with its label; of several such classes to the most probable. Given and confident labels, counted, are the
    confident joint of Northcutt, Jiang and Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset
    Labels".
    """
    classes = range(probabilities.shape[1])
    thresholds = np.array([probabilities[labels == each, each].mean() for each in classes])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(confident.max(axis=1) >= 0, confident.argmax(axis=1), -1)


def doubted(probabilities: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the photos for which another class is more probable than their label, the least probable label first."""
    own = probabilities[np.arange(len(labels)), labels]
    rows = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    ordered: NDArray[np.intp] = rows[np.argsort(own[rows], kind="stable")]
    return ordered


def _reduced(features: NDArray[np.floating[Any]], seed: int) -> NDArray[np.float64]:
    """Return the principal components of features of length 1, [photos, components], of one overall size."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    unit = features / np.maximum(lengths, np.finfo(np.float64).tiny)
    size = min(COMPONENTS, *unit.shape)
    found = PCA(size, svd_solver="randomized" if size < min(unit.shape) else "full", random_state=seed)
    reduced: NDArray[np.float64] = found.fit_transform(unit)
    reduced *= np.sqrt(COMPONENTS / size) / max(float(reduced.std()), np.finfo(np.float64).tiny)
    return reduced
