"""`trainer upload`: a data set and its splits into a bucket or a folder."""

from __future__ import annotations

from shlex import quote
from typing import Annotated

import typer

from classifier.errors import InvalidRequest
from classifier.wording import plural
from trainer.commands.options import (
    ClassesOption,
    CsvOption,
    EncodingOption,
    FirstClassesOption,
    ImageColumnOption,
    LabelColumnOption,
    MaxPerClassOption,
    RandomClassesOption,
    SeparatorOption,
    SplitColumnOption,
    class_names,
    folder_of_table,
    of,
)
from trainer.commands.screen import console
from trainer.run.sections import LARGEST_SEED, DataConfig


def upload(
    target: Annotated[str, typer.Argument(help="gs://bucket/folder, or a folder.", metavar="TO")],
    dataset: Annotated[str, of("dataset")],
    data_dir: Annotated[str | None, of("data_dir")] = None,
    csv: CsvOption = None,
    image_column: ImageColumnOption = "image_path",
    label_column: LabelColumnOption = "label",
    split_column: SplitColumnOption = "split",
    separator: SeparatorOption = None,
    encoding: EncodingOption = None,
    classes: ClassesOption = "",
    first_classes: FirstClassesOption = None,
    random_classes: RandomClassesOption = None,
    max_per_class: MaxPerClassOption = None,
    validation_share: Annotated[float, of("validation_share")] = 0.1,
    test_share: Annotated[float, of("test_share")] = 0.2,
    max_rejected: Annotated[float, of("max_rejected")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of splits and draws.", min=0, max=LARGEST_SEED)] = 7,
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

    data_dir = data_dir or folder_of_table(dataset, csv)
    if data_dir is None:
        raise InvalidRequest("Expected --data-dir with --dataset; received none.")
    expect_apart(data_dir, target)
    config = DataConfig(
        dataset=dataset,
        data_dir=data_dir,
        csv=str(csv) if csv else None,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        separator=separator,
        encoding=encoding,
        classes=class_names(classes),
        first_classes=first_classes,
        random_classes=random_classes,
        max_per_class=max_per_class,
        validation_share=validation_share,
        test_share=test_share,
        max_rejected=max_rejected,
        seed=seed,
    )
    photos = describe_dataset(config, console())
    require_few_rejected(photos, max_rejected, "`trainer datasets`")
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
