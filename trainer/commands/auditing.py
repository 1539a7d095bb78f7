"""`trainer audit`: what is probably wrong with photos and labels."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from classifier.errors import InvalidRequest
from trainer.commands.options import PhotosOptions, declared_options, given_flags
from trainer.commands.screen import console, load_keras
from trainer.run.sections import NetworkConfig

USUAL = "efficientnet_lite0"
OF_ANY = ("run", "out", "photos", "overwrite")
"""What may be given with a run."""


@declared_options
def audit(
    context: typer.Context,
    data: PhotosOptions,
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run: its photos. Or give --dataset and --data-dir.")
    ] = None,
    architecture: Annotated[
        str, typer.Option(help="Whose features; of a run those of its own network, before it was trained.")
    ] = USUAL,
    weights: Annotated[str, typer.Option(help="imagenet or a weights file.")] = "imagenet",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the page and the table. Default: RUN/audit, or audit.")
    ] = None,
    photos: Annotated[int, typer.Option(help="Most photos of each kind on the page.", min=1)] = 150,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over a table in which something was decided.")
    ] = False,
) -> None:
    """Find photos that are probably mislabelled, near duplicates and outliers.

    audit.html shows them, decisions.csv lists them. Decide on the page and save the table, or edit it: relabel or drop
    in place of keep. `trainer train --corrections` takes it.

    Labels are doubted by models that were trained on the other photos (cross-validation, confident learning), on
    features of a frozen network.

    Example: trainer audit --dataset folder --data-dir photos
    """
    from trainer.data.decisions import require_undecided

    folder = out or (run / "audit" if run else Path("audit"))
    if run is not None:
        _require_alone(context)
    elif data is None:
        raise InvalidRequest("Expected the folder of a run, or --dataset with --data-dir; received neither.")
    if not overwrite:
        require_undecided(folder / "decisions.csv")
    load_keras()
    from trainer.audit import findings, material, page
    from trainer.run.files import write_file

    if run is not None:
        looked_at = material.of_run(run, folder, console())
    elif data is not None:
        network = NetworkConfig(architecture=architecture, weights=weights)
        looked_at = material.of_dataset(data, network, folder, console())
    found = findings.find(looked_at)
    table = findings.to_table(found)
    lines = findings.summary(found)
    for line in lines:
        typer.echo(line)
    findings.write_table(table, folder / findings.TABLE)
    text = page.to_html(found, table, f"Audit of {looked_at.data.dataset}", lines, photos)
    write_file(folder / page.PAGE, lambda path: path.write_text(text, encoding="utf-8"))
    typer.echo(f"wrote {folder / page.PAGE} and {folder / findings.TABLE}")
    typer.echo(f"next: decide, then trainer train … --corrections {quote(str(folder / findings.TABLE))} --run NEW")


def _require_alone(context: typer.Context) -> None:
    """Refuse options that say which photos or which network where a run does.

    Raises:
        InvalidRequest: the message names them.
    """
    useless = given_flags(context, but=OF_ANY)
    if useless:
        raise InvalidRequest(f"A run has its own photos and network: leave {' and '.join(useless)} out.")
