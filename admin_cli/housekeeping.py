"""The commands about what a store holds: models, pull, open, prune."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from admin_cli.browser import show_page
from admin_cli.files import PARTIAL, write_file
from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    VersionArgument,
    WhoOption,
    name_of,
    open_registry,
    version_of,
)
from admin_cli.output import megabytes, print_json, print_table, print_text
from admin_cli.production import ReasonOption
from classifier.errors import Corrupt, InvalidRequest, NotFound
from classifier.registry import pruning
from classifier.registry.catalogue import models as models_of
from classifier.registry.channels import PRODUCTION
from classifier.registry.manifest import MANIFEST_FILE, REPORT_FILE, Manifest
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store

PARALLEL = 8


def models(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the models of a store.

    Example: admin_cli models --store gs://bucket/models
    """
    opened = open_store(store)
    rows = []
    for name in models_of(opened):
        registry = Registry(opened, name)
        channels, listing = registry.channels(newest=0), registry.newest_versions(1)[0]
        rows.append(
            {
                "model": name,
                "production": channels.production.version if channels.production else None,
                "canary": channels.canary.version if channels.canary else None,
                "shadow": channels.shadow.version if channels.shadow else None,
                "newest": listing.versions[-1].version if listing.versions else None,
                "versions": listing.claimed,
            }
        )
    if as_json:
        print_json(rows)
    elif not rows:
        print_text(f"There is no model in {store}. `admin_cli publish RUN` publishes the first version.")
    else:
        print_table(
            ("model", "production", "canary", "shadow", "newest", "versions"),
            (
                [str(each[name] or "-") for name in ("model", "production", "canary", "shadow", "newest", "versions")]
                for each in rows
            ),
            right=("versions",),
        )


def pull(
    version: VersionArgument = PRODUCTION,
    folder: Annotated[Path | None, typer.Option("--out", help="Where it goes. Default: MODEL-VERSION.")] = None,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Download a version: every file, verified.

    Example: admin_cli pull v7 --out food-v7
    """
    registry = open_registry(store, model)
    version = version_of(registry, version)
    target = folder or Path(f"{model}-{version}")
    size = _pull(registry, version, target)
    if as_json:
        print_json({"version": version, "folder": str(target), "bytes": size})
    else:
        print_text(f"{version} in {target}, {megabytes(size)} MB")


def open_report(
    version: VersionArgument = PRODUCTION,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where it is downloaded. Default: MODEL-VERSION.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
) -> None:
    """Download a version's report and open it in the browser.

    Example: admin_cli open v7
    """
    registry = open_registry(store, model)
    version = version_of(registry, version)
    manifest, _ = registry.manifest(version)
    if REPORT_FILE not in manifest.files:
        raise NotFound(
            f"Expected {REPORT_FILE} in {version}; it was published without one. `trainer report` makes one in the "
            "folder of its run, to be published again."
        )
    path = (folder or Path(f"{model}-{version}")) / REPORT_FILE
    content = registry.read_file(manifest, REPORT_FILE)
    with _writing(path):
        write_file(path, content)
    print_text(f"wrote {path}")
    show_page(path)


def prune(
    keep: Annotated[int, typer.Option("--keep", help="How many of the newest stay.", min=1)] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
    reason: ReasonOption = "",
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete old versions for good.

    Never what production serves or served last, a canary or a shadow, one of the newest, or a parent of one that stays.
    The history says what went.

    Example: admin_cli prune --keep 5 --dry-run
    """
    registry = open_registry(store, model)
    registry.expect_model()
    chosen = [*pruning.unfinished(registry), *pruning.prunable(registry, keep)]
    if not dry_run:
        for version in chosen:
            pruning.prune(registry, version, who=name_of(who), reason=reason)
    if as_json:
        print_json({"pruned": chosen, "dry_run": dry_run})
    elif not chosen:
        print_text("nothing is old enough to go")
    else:
        print_text(f"{'would delete' if dry_run else 'deleted'} {', '.join(chosen)}")


def _pull(registry: Registry, version: str, target: Path) -> int:
    """Write all files of a version. The manifest is the last: until then the folder is no bundle, or a damaged one."""
    manifest, _ = registry.manifest(version)
    with _writing(target):
        for name in _leftovers(target, manifest):
            (target / name).unlink()
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(lambda name: write_file(target / name, registry.read_file(manifest, name)), manifest.files))
        write_file(target / MANIFEST_FILE, manifest.to_json())
    return sum(entry.bytes for entry in manifest.files.values())


def _leftovers(target: Path, manifest: Manifest) -> list[str]:
    """Return the files of a folder that are of another version that was pulled there, or not whole.

    Raises:
        InvalidRequest: it holds something else.
    """
    ours = {MANIFEST_FILE, *manifest.files}
    known = set(ours)
    if (target / MANIFEST_FILE).is_file():
        with suppress(Corrupt):
            known |= Manifest.from_json((target / MANIFEST_FILE).read_bytes()).files.keys()
    found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir())
    others = [name for name in found if name.removesuffix(PARTIAL) not in known]
    if others:
        raise InvalidRequest(
            f"Expected a folder for {manifest.version} that is new or empty; {target} holds something else: "
            f"{others[0]}. Name another one with --out."
        )
    return [name for name in found if name not in ours]


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn what the file system reports into `InvalidRequest`."""
    try:
        yield
    except OSError as error:
        raise InvalidRequest(
            f"Expected a folder that can be written; {error.filename or target}: {error.strerror or error}."
        ) from error
