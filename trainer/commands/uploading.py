"""`trainer upload`: a data set and its splits into a bucket or a folder."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from classifier.wording import plural
from trainer.commands.options import PHOTOS, Only, declared_options
from trainer.commands.screen import console
from trainer.run.sections import DataConfig


@declared_options
def upload(
    target: Annotated[str, typer.Argument(help="gs://bucket/folder, or a folder.", metavar="TO")],
    data: Annotated[DataConfig, Only((*PHOTOS, "validation_share", "test_share", "max_rejected"))],
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of what is there with other bytes, labels or splits.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and upload nothing.")] = False,
) -> None:
    """Fill a bucket, or a folder, with a data set and its splits.

    Photos keep their paths; photos.csv, which has their labels and splits, is written last. Both are what `trainer
    train --dataset csv --data-dir TO` takes. Interrupted anywhere, the same command goes on with what is missing. A
    later one adds new photos and tells what is different; nothing that is there changes without --replace, and nothing
    is removed.

    Example: trainer upload gs://bucket/photos --dataset dog-breed --data-dir data/dog-breed
    """
    from trainer.data.listing import SPLITS, TABLE
    from trainer.data.preparation import require_few_rejected
    from trainer.data.upload import expect_apart
    from trainer.data.upload import upload as send
    from trainer.evaluation.of_run import describe_dataset

    expect_apart(data.data_dir, target)
    photos = describe_dataset(data, console())
    require_few_rejected(photos, data.max_rejected, "`trainer datasets`")
    done = send(photos, target, console(), replace=replace, dry_run=dry_run)
    typer.echo(
        f"{'would upload' if dry_run else 'uploaded'} {plural(done.new, 'new photo')}, replaced {done.replaced:,}; "
        f"{done.unchanged:,} were there"
    )
    for count, what in (
        (done.relabelled, "with another label than there"),
        (done.moved, "in another split than there"),
        (done.kept_splits, "keep the split that they have there (--replace gives them this data set's)"),
        (
            done.others,
            "there are not in this data set: " + ("they leave the table" if replace else "they stay in the table"),
        ),
    ):
        if count:
            typer.echo(f"{plural(count, 'photo')} {what}")
    counts = ", ".join(f"{done.counts.get(split, 0):,} {split}" for split in SPLITS)
    verb = ("would write" if dry_run else "wrote") if done.table_written else "unchanged:"
    typer.echo(f"{verb} {target.rstrip('/')}/{TABLE}: {counts}")
    if not dry_run:
        typer.echo(f"next: trainer train --dataset csv --data-dir {quote(target)} --run runs/NAME")
