"""The command publish: a run's bundle becomes the next version, and which of its files anybody may see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    NEWEST,
    JsonOption,
    ModelOption,
    StoreOption,
    WhoOption,
    name_of,
    open_registry,
)
from admin_cli.output import print_json, print_text
from admin_cli.replay import replay
from classifier.errors import NotFound
from classifier.registry.bundle import read_bundle
from classifier.registry.manifest import MANIFEST_FILE
from classifier.registry.public_files import CARD_FILE, choose
from classifier.registry.rules import Registry


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a bundle.")],
    again: Annotated[bool, typer.Option("--again", help="Also where one of the newest versions is the same.")] = False,
    samples: Annotated[
        int,
        typer.Option(min=0, help="How many golden photos the function shows to whoever may ask it, to be tried."),
    ] = 0,
    card: Annotated[
        bool, typer.Option("--card", help="The function shows the model card to whoever may ask it.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    who: WhoOption = "",
    as_json: JsonOption = False,
) -> None:
    """Store a run's bundle as the next version. It serves nobody until it is promoted.

    Where it was published before, and is among the newest 20, that is said and nothing is written. Its golden photos
    are held-out photos of the data set: nobody but operators sees them unless --samples says so.

    Example: admin_cli publish runs/food --samples 4
    """
    bundle = run / "bundle" if (run / "bundle").is_dir() else run
    if not (bundle / MANIFEST_FILE).is_file():
        raise NotFound(f"Expected a bundle in {run}; there is none. `trainer train` or `trainer export` makes one.")
    registry = open_registry(store, model)
    checked = read_bundle(bundle)
    if card and CARD_FILE not in checked.files:
        raise NotFound(f"Expected {CARD_FILE} in {bundle}; there is none. {_makes_card(bundle)}")
    public = choose(checked, samples, card=card)
    if not again and (same := published_before(registry, bundle, public)):
        if as_json:
            print_json({"version": same, "model": model, "published": False})
        else:
            print_text(f"{same} is the same; nothing was written (--again publishes it once more)")
        return
    manifest = registry.publish(bundle, who=name_of(who), replay=replay, public=public)
    if as_json:
        print_json({"version": manifest.version, "model": model, "published": True})
    else:
        typer.echo(f"published {manifest.version}")


def published_before(registry: Registry, bundle: Path, public: tuple[str, ...] = ()) -> str | None:
    """Return the newest version, of a list's first page, that a bundle was published as; None where it was not.

    Args:
        registry: of the model.
        bundle: its folder.
        public: what of it the version has to show, no more and no less; see `Manifest.public`.

    Raises:
        NotFound, Corrupt: the bundle is none, or is damaged.
    """
    mine = replace(read_bundle(bundle), public=public)
    try:
        listing, _ = registry.newest_versions(NEWEST)
    except NotFound:  # the first of its model
        return None
    for summary in reversed(listing.versions):
        theirs = summary.manifest
        if theirs and replace(theirs, model=mine.model, version=None, created_by=mine.created_by) == replace(
            mine, version=None
        ):
            return theirs.version
    return None


def _makes_card(bundle: Path) -> str:
    """Say what makes the model card that a bundle lacks: a report of its run, if it lies in the folder of one."""
    run = bundle.parent
    if (run / "config.json").is_file():
        return f"`trainer report {quote(str(run))}` makes one."
    return "`trainer report` makes one in the folder of a run, `admin_cli import` with --photos."
