"""How well photos of nearly the right thing are told: five draws of two dishes of Food-101 that a head never sees.

    python bench/near_ood.py [--data DIR] [--weights DIR] [--dataset food-101] [--networks NAMES] [--cache DIR]
    python bench/near_ood.py --served [--fine-tuned] [--variants float32,int8]

The classes are shuffled with a seed and held out in turn, a fifth of them each time; the head is trained on the frozen
features of the others' training photos. Each row is the mean over the draws of the AUROC between the test photos of
the classes and those of the classes held out, and of the share of the latter that is told while 95 % of the former
pass. ``chosen`` is what an export would take: by classes that are left out in turn of the training and validation
photos alone. The rows below it are other scores of the literature on the same features, and what learning from another
draw's classes gives (``--ood`` of a training). Features are computed once and kept in --cache.

With --served the same draws go through `trainer train`, `export` and `evaluate`: what the served files give, as users
run them, of each variant; of a head alone, or of networks that are fine-tuned as by default.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench import written  # noqa: E402
from classifier.quiet import quiet  # noqa: E402
from classifier.registry.manifest import InputSpec  # noqa: E402

SHARED = ROOT.parent / "shared"
WEIGHTS = {
    "mobilenet_v2": "mobilenet_v2_1.0_224_no_top.weights.h5",
    "efficientnet_lite0": "efficientnet_lite0_no_top.weights.h5",
    "efficientnet_lite2": "efficientnet_lite2_no_top.weights.h5",
}
DRAWS, SEED, PASS = 5, 7, 0.95
VARIANTS = "float32,int8-dynamic,int8"
Array = NDArray[np.floating[Any]]


def main() -> None:
    """Print a table a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data, weights = (
        os.environ.get("POINTER_DATA", SHARED / "data"),
        os.environ.get("POINTER_WEIGHTS", SHARED / "weights"),
    )
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with food-101 and dog-breed")
    parser.add_argument("--weights", type=Path, default=Path(weights), help="folder with the weights")
    parser.add_argument("--dataset", choices=("food-101", "dog-breed"), default="food-101")
    parser.add_argument("--networks", default=",".join(WEIGHTS))
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="where features are kept")
    parser.add_argument("--served", action="store_true", help="through the trainer, by the files that are served")
    parser.add_argument("--fine-tuned", action="store_true", help="of --served: fine-tune too, not the head alone")
    parser.add_argument("--variants", default=VARIANTS, help="of --served; default: %(default)s")
    options = parser.parse_args()
    if options.fine_tuned and not options.served:
        parser.error("expected --served beside --fine-tuned: features that are frozen are not fine-tuned")
    if options.served:
        for network in options.networks.split(","):
            print_served(options, network)
        return
    for network in options.networks.split(","):
        features, labels, splits = cached(options, network)
        print(f"{network}, {options.dataset}")
        print("score                        AUROC   told  AUROC of each draw")
        table = measured(features, labels, splits)
        for name, rows in table.items():
            aurocs, told = np.array(rows).T
            each = " ".join(f"{auroc:.3f}" for auroc in aurocs[:DRAWS]) if len(rows) == DRAWS else ""
            print(f"{name:<28} {aurocs.mean():.3f}  {told.mean():5.1%}  {each}".rstrip())
        print()


def cached(options: argparse.Namespace, network: str) -> tuple[Array, NDArray[Any], NDArray[Any]]:
    """Return pooled features, label and split of every photo."""
    path: Path = options.cache / f"{options.dataset}-{network}.npz"
    if not path.is_file():
        from trainer.data.preparation import check_dataset
        from trainer.networks import backbones
        from trainer.run.sections import DataConfig, NetworkConfig

        with quiet(tell_on_error=True):
            backbone = backbones.build_backbone(NetworkConfig(network, str(options.weights / WEIGHTS[network])))
        from rich.console import Console

        config = DataConfig(options.dataset, str(options.data / options.dataset))
        photos, _ = check_dataset(config, InputSpec(*backbone.input_shape[1:3]), Console(quiet=True))
        rows = np.arange(len(photos.frame))
        pooled = [
            np.asarray(backbone.predict_on_batch(np.stack([photos.source.array(int(row)) for row in part])))
            .mean(axis=(1, 2))
            .astype(np.float32)
            for part in np.array_split(rows, max(1, len(rows) // 50))
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        labels, splits = (photos.frame[column].to_numpy(str) for column in ("label", "split"))
        np.savez(path, pooled=np.concatenate(pooled), labels=labels, splits=splits)
    with np.load(path) as kept:
        return kept["pooled"], kept["labels"], kept["splits"]


def print_served(options: argparse.Namespace, network: str) -> None:
    """Train once a draw, and print AUROC and share told of each variant of its file."""
    _, labels, _ = cached(options, network)
    variants = options.variants.split(",")
    print(f"{network}, {options.dataset}, served files, {'fine-tuned' if options.fine_tuned else 'a head alone'}")
    print("variant         AUROC   told  held out, or AUROC of each draw")
    table: dict[str, list[tuple[float, float]]] = {}
    for held in draws_of(labels):
        with tempfile.TemporaryDirectory() as folder:
            near = near_photos(options, held, Path(folder, "near"))
            run, kept = Path(folder, "run"), ",".join(np.setdiff1d(labels, held))
            data = ["--dataset", options.dataset, "--data-dir", options.data / options.dataset]
            trained = ["--architecture", network, "--weights", options.weights / WEIGHTS[network]]
            phases = [] if options.fine_tuned else ["--fine-tune-epochs", 0]
            once = ["--seed", SEED, "--variant", variants[0], "--no-report"]
            trainer("train", *data, "--classes", kept, *trained, *phases, *once, "--run", run)
            for variant in variants:
                if variant != variants[0]:
                    trainer("export", run, "--variant", variant, "--no-report")
                told = json.loads(trainer("evaluate", run, "--ood", f"near={near}", "--json"))["ood"]["near"]
                table.setdefault(variant, []).append((told["auroc"], told["trade"][f"{PASS:g}"]))
                print(
                    f"{variant:<14} {told['auroc']:.3f}  {told['trade'][f'{PASS:g}']:5.1%}  {','.join(held)}",
                    flush=True,
                )
    print("means")
    for variant, rows in table.items():
        aurocs, shares = np.array(rows).T
        each = " ".join(f"{auroc:.3f}" for auroc in aurocs)
        print(f"{variant:<14} {aurocs.mean():.3f}  {shares.mean():5.1%}  {each}")
    print()


def near_photos(options: argparse.Namespace, held: NDArray[Any], folder: Path) -> Path:
    """Make a folder of links to the test photos of the classes held out."""
    from rich.console import Console

    from trainer.data.preparation import check_dataset
    from trainer.run.sections import DataConfig

    data = DataConfig(options.dataset, str(options.data / options.dataset))
    frame = check_dataset(data, InputSpec(224, 224), Console(quiet=True))[0].frame
    folder.mkdir()
    for path in frame[frame.label.isin(held) & (frame.split == "test")].image_path:
        photo = (options.data / options.dataset / path).resolve()
        (folder / f"{photo.parent.name}-{photo.name}").symlink_to(photo)
    return folder


def trainer(*words: object) -> str:
    """Return what `trainer` prints."""
    command = [str(Path(sys.executable).parent / "trainer"), *map(str, words)]
    return str(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def draws_of(labels: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the classes that each draw holds out."""
    return np.array_split(np.random.default_rng(SEED).permutation(np.unique(labels)), DRAWS)


def measured(features: Array, labels: NDArray[Any], splits: NDArray[Any]) -> dict[str, list[tuple[float, float]]]:
    """Return AUROC and share told of each score, one pair a draw."""
    from trainer.networks import ood_score

    table: dict[str, list[tuple[float, float]]] = {}
    draws = draws_of(labels)
    for number, held in enumerate(draws):
        kept = np.setdiff1d(labels, held)
        inside = np.isin(labels, kept)
        own = {split: features[inside & (splits == split)] for split in ("train", "validation", "test")}
        truth = {split: np.searchsorted(kept, labels[inside & (splits == split)]).astype(np.int32) for split in own}
        others = features[~inside & (splits == "test")]
        logits = trained_head(own, truth)

        def note(name: str, known: Array, ood: Array) -> None:
            table.setdefault(name, []).append(told(known, ood))

        space = ood_score.feature_space(own["train"], truth["train"])
        score = ood_score.fit(space, own["validation"], logits(own["validation"]))
        scores = {
            name: tuple(
                np.asarray(score.of(name).scores(each, logits(each)), np.float64)[:, 0]
                for each in (own["test"], others)
            )
            for name in ood_score.METHODS
        }
        left_out = ood_score.compare_left_out((own["train"], truth["train"]), (own["validation"], truth["validation"]))
        best = ood_score.best_method({name: each.auroc for name, each in left_out.items()})
        for name, pair in {**scores, "chosen": scores[best]}.items():
            note(name, *pair)
        for name, of in literature(own["train"], truth["train"], logits).items():
            note(name, of(own["test"]), of(others))
        for other in np.delete(np.arange(DRAWS), number):
            note_exposure(table, features, labels, splits, (held, draws[other]))
    return table


def note_exposure(
    table: dict[str, list[tuple[float, float]]],
    features: Array,
    labels: NDArray[Any],
    splits: NDArray[Any],
    drawn: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    """Measure the kernel score of the remaining classes, with and without training photos of other strangers."""
    from trainer.networks.kernel_score import fit_bank

    held, seen = drawn
    kept = np.setdiff1d(labels, np.concatenate(drawn))
    train, test = (np.isin(labels, kept) & (splits == split) for split in ("train", "test"))
    truth, shown = np.searchsorted(kept, labels[train]), features[np.isin(labels, seen) & (splits == "train")]
    tested = features[test], features[np.isin(labels, held) & (splits == "test")]
    for name, exposure in (("a fifth of classes fewer", None), ("the same, learnt from these", shown)):
        bank = fit_bank(features[train], truth, exposure)
        known, ood = (np.asarray(bank.outputs(each)).max(axis=1) for each in tested)
        table.setdefault(name, []).append(told(known, ood))


def told(known: Array, ood: Array) -> tuple[float, float]:
    """Return the AUROC, and the share of strangers below the value that `PASS` of the known photos reach."""
    from trainer.metrics.separation import auroc

    return auroc(known, ood), float((ood < np.quantile(known, 1 - PASS)).mean())


def trained_head(own: dict[str, Array], truth: dict[str, NDArray[np.int32]]) -> Callable[[Array], Array]:
    """Train a head as `trainer train` does on cached features, and return features -> logits."""
    import keras

    from trainer.networks.heads import build_head
    from trainer.training.features import usual_head_decay

    keras.utils.set_random_seed(SEED)
    decay = usual_head_decay(own["train"], len(own["train"]))
    head = build_head(own["train"].shape[1], int(truth["train"].max()) + 1, decay=decay)
    head.compile(keras.optimizers.Adam(3e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stop = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    head.fit(
        own["train"], truth["train"],
        validation_data=(own["validation"], truth["validation"]),
        epochs=60, batch_size=32, verbose=0, callbacks=[stop],
    )  # fmt: skip
    return lambda pooled: np.asarray(head.predict(pooled, verbose=0, batch_size=512), np.float32)


def literature(
    train: Array, truth: NDArray[np.int32], logits: Callable[[Array], Array]
) -> dict[str, Callable[[Array], Array]]:
    """Return scores of the literature as functions of pooled features; higher is more like the training photos."""
    from scipy.special import logsumexp, softmax
    from sklearn.covariance import LedoitWolf
    from sklearn.utils.extmath import randomized_svd

    def unit(pooled: Array) -> Array:
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), np.float64)

    def gaussian(prepared: Array, classes: NDArray[np.integer[Any]]) -> Callable[[Array], Array]:
        means = np.stack([prepared[classes == number].mean(axis=0) for number in np.unique(classes)])
        precision = LedoitWolf().fit(prepared - means[classes]).precision_
        return lambda of: -np.min([(((of - mean) @ precision) * (of - mean)).sum(axis=1) for mean in means], axis=0)

    bank, trained = unit(train), logits(train)
    centre = bank.mean(axis=0)
    basis = randomized_svd(bank - centre, 256, random_state=0)[2].T

    def placed(pooled: Array) -> Array:
        return np.asarray((unit(pooled) - centre) @ basis)

    normalised, background = gaussian(placed(train), truth), gaussian(placed(train), np.zeros_like(truth))
    energies = logsumexp(trained, axis=1)
    guide = bank * energies[:, None]
    vectors = randomized_svd(train - train.mean(axis=0), 128, random_state=0)[2]

    def residual(pooled: Array) -> Array:
        centred = pooled - train.mean(axis=0)
        return np.asarray(np.sqrt(np.maximum((centred**2).sum(axis=1) - ((centred @ vectors.T) ** 2).sum(axis=1), 0)))

    def generalised_entropy(pooled: Array) -> Array:
        chances = softmax(logits(pooled).astype(np.float64), axis=1)
        return np.asarray(-((chances * (1 - chances)) ** 0.1).sum(axis=1))

    def nearest(pooled: Array, of: Array, count: int) -> Array:
        return np.asarray(np.sort(unit(pooled) @ of.T, axis=1)[:, -count:].mean(axis=1))

    def shaped(pooled: Array, share: float = 0.65) -> Array:
        limit = np.quantile(pooled, share, axis=1, keepdims=True)
        kept = np.where(pooled >= limit, pooled, 0)
        scale = np.exp(pooled.sum(axis=1, keepdims=True) / kept.sum(axis=1, keepdims=True))
        return np.asarray(logsumexp(logits((kept * scale / np.e).astype(np.float32)), axis=1))

    alpha = trained.max(axis=1).mean() / residual(train).mean()
    return {
        "GEN": generalised_entropy,
        "ASH-S": shaped,
        "KNN, 1": lambda pooled: nearest(pooled, bank, 1),
        "KNN, 20": lambda pooled: nearest(pooled, bank, 20),
        "NNGuide": lambda pooled: nearest(pooled, guide, 20) * logsumexp(logits(pooled), axis=1),
        "Mahalanobis++": lambda pooled: normalised(placed(pooled)),
        "RMDS, unit length": lambda pooled: normalised(placed(pooled)) - background(placed(pooled)),
        "ViM": lambda pooled: np.asarray(logsumexp(logits(pooled), axis=1) - alpha * residual(pooled)),
    }


if __name__ == "__main__":
    written.program(main)
