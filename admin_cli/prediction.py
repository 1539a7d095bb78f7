"""The command predict: a photo's labels and Grad-CAM, from a running function or straight from the store."""

from __future__ import annotations

import base64
import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from admin_cli.calling import ask_function
from admin_cli.evaluation_set import SUFFIXES
from admin_cli.options import (
    DEFAULT_MODEL,
    DEFAULT_STORE,
    JsonOption,
    ModelOption,
    StoreOption,
    model_for_url,
    open_registry,
    version_of,
)
from admin_cli.output import percent, print_json, print_table, print_text
from admin_cli.submission import open_quietly, submission
from classifier.errors import InvalidImage, InvalidRequest, NotFound, NotReady, PointerError, TooLarge
from classifier.quiet import quiet
from classifier.registry.channels import CANARY, PRODUCTION, Pointer
from classifier.serving.query import TOP_LABEL, Query, Tta
from classifier.storage.protocol import open_source
from classifier.wording import plural

FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
TableFormat = Literal["csv", "kaggle-dog-breed"]
Views = Literal["mirror", "crops", "all"]
Ask = Callable[[bytes, Query], dict[str, Any]]


def predict(
    context: typer.Context,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Photos, or folders of them.")],
    gradcam: Annotated[
        Path | None, typer.Option("--gradcam", help="Write the Grad-CAM overlay here: .jpg, .png or .webp.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Explain this label instead of the top one.")] = None,
    occlusion: Annotated[
        bool, typer.Option("--occlusion", help="Explain by occlusion, which any model can: 64 more forward passes.")
    ] = False,
    top_k: Annotated[int, typer.Option("--top-k", help="How many labels.", min=1, max=100)] = 5,
    tta: Annotated[bool, typer.Option("--tta", help="Average over the photo and its mirror image.")] = False,
    views: Annotated[
        Views | None,
        typer.Option("--views", help="mirror (as --tta), crops (five), or all (these and their mirror images)."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="Ask this function, with POINTER_ID_TOKEN and POINTER_APP_CHECK_TOKEN. Default: run production's "
            "model here.",
        ),
    ] = None,
    version: Annotated[
        str, typer.Option("--version", help="Try this version, such as v8 or canary, before it serves.")
    ] = PRODUCTION,
    form: Annotated[
        TableFormat | None,
        typer.Option(
            "--format",
            help="csv: a table also of one photo. kaggle-dog-breed: the submission of that competition, every label's "
            "probability by the photo's name.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Classify photos, here or by a running function.

    Of several photos, or a folder, it prints a table in CSV, in which one that cannot be read has its problem. A
    submission (--format kaggle-dog-breed) has every photo or is none. Wherever a photo cannot be read, the exit code is
    2, and the last line on standard error says how many there are.

    Example: admin_cli predict photo.jpg --gradcam out.jpg
    """
    if label is not None and gradcam is None:
        raise InvalidRequest("Expected --gradcam FILE with --label; received none.")
    if occlusion and gradcam is None:
        raise InvalidRequest("Expected --gradcam FILE with --occlusion; received none.")
    if url is not None and version != PRODUCTION:
        raise InvalidRequest("Expected --version or --url; received both.")
    if form is not None and (as_json or gradcam is not None):
        raise InvalidRequest(f"Expected --format without --json and --gradcam; received {form} with one of them.")
    choice: Tta = views or ("mirror" if tta else "")
    files = _files(photos)
    if form == "kaggle-dog-breed":
        if url is not None:
            raise InvalidRequest(f"Expected --store with --format {form}: a function tells 100 labels; received --url.")
        typer.echo(submission(open_quietly(store, model, version), files, tta=tta), nl=False)
        return
    if files != photos or len(files) > 1 or form is not None:
        if gradcam is not None:
            raise InvalidRequest(f"Expected one photo with --gradcam; received {len(files)}.")
        ask = _asker(url, version, store, model, model_for_url(context, model))
        _print_all(files, ask, Query(top_k=top_k, tta=choice), as_json)
        return
    (photo,) = photos
    query = Query(top_k=top_k, tta=choice)
    if gradcam is not None:
        query = replace(query, gradcam=label or TOP_LABEL, occlusion=occlusion, gradcam_format=_format(gradcam))
    with open_source(photo) as file:
        content = file.read()
    reply = _asker(url, version, store, model, model_for_url(context, model))(content, query)
    overlay = reply.get("gradcam")
    if gradcam is not None:
        if overlay is None:
            raise PointerError(f"Expected an overlay for {gradcam}; {url} sent none. Does it run this release?")
        _write(gradcam, base64.b64decode(overlay.pop("image")))
        overlay["file"] = str(gradcam)
    if as_json:
        print_json(reply)
        return
    print_table(
        ("label", "confidence"),
        ((row["label"], percent(row["confidence"])) for row in reply["predictions"]),
        right=("confidence",),
    )
    typer.echo("")
    served = f"{reply['model']['version']} of {reply['model']['name']}"
    if reply["status"] == "ok":
        print_text(f"{reply['label']}, says {served}")
    else:
        score = f" (score {reply['score']:.3f})" if "score" in reply else ""  # none from an earlier release
        print_text(f"{reply['status']}: not like anything that {served} was trained on{score}")
    if "fallback" in reply["model"]:
        fallback = reply["model"]["fallback"]
        print_text(f"it serves in place of {fallback['pointed']}, which is {fallback['reason']}")
    if overlay is not None:
        print_text(f"wrote {overlay['file']}: why {overlay['label']}")


def _format(path: Path) -> str:
    if path.suffix.lower() not in FORMATS:
        raise InvalidRequest(f"Expected --gradcam to end in {', '.join(FORMATS)}; received {path.name!r}.")
    return FORMATS[path.suffix.lower()]


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidRequest(f"Expected --gradcam FILE that can be written; {path}: {error.strerror}.") from error


def _files(photos: Sequence[Path]) -> list[Path]:
    """Return the photos, those of folders by their endings.

    Raises:
        NotFound: a folder has none.
    """
    files: list[Path] = []
    for path in photos:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
        if not found:
            raise NotFound(f"Expected photos in {path}; found none.")
        files += found
    return files


def _print_all(files: Sequence[Path], ask: Ask, query: Query, as_json: bool) -> None:
    """Print what is said of each photo; one that cannot be read does not stop the others.

    Raises:
        InvalidImage: some could not be read; it was printed which.
    """
    rows = []
    for path in files:
        try:
            with open_source(path) as file:
                reply = ask(file.read(), query)
        except (InvalidImage, TooLarge) as error:
            rows.append({"photo": str(path), "problem": str(error)})
            continue
        rows.append({"photo": str(path), **{name: reply[name] for name in ("label", "confidence", "status")}})
    if as_json:
        print_json(rows)
    else:
        table = io.StringIO()
        writer = csv.DictWriter(table, ("photo", "label", "confidence", "status", "problem"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        typer.echo(table.getvalue(), nl=False)
    if bad := sum("problem" in row for row in rows):
        raise InvalidImage(f"{bad} of {plural(len(rows), 'photo')} could not be read; their rows say why.")


def _asker(url: str | None, version: str, store: str, model: str, named: str | None) -> Ask:
    """Return what asks: a running function, or its own parts and settings in this process, whose log goes nowhere."""
    if url is not None:
        return partial(ask_function, url, named)
    from classifier import logs
    from classifier.serving.instance import Instance
    from classifier.serving.loader import Loader, Unusable
    from classifier.serving.predictor import Predictor
    from classifier.serving.reply_body import body_of
    from classifier.settings import Settings

    settings = Settings.from_env({**os.environ, "MODEL_STORE": store, "MODEL_NAME": model})
    predictor = Predictor(settings, Instance(settings, fall_back=False))
    loaded = None
    if version != PRODUCTION:
        pointer = _pointer(store, model, version)
        try:
            with quiet(), logs.written_to(io.StringIO()):
                loaded = Loader(settings).load(pointer)
        except Unusable as problem:
            raise problem.error from problem

    def ask(content: bytes, query: Query) -> dict[str, Any]:
        try:
            with quiet(), logs.written_to(io.StringIO()):
                answer = predictor(content, query, loaded)
        except NotReady:
            open_registry(store, model).expect_model()
            raise
        return body_of(answer.prediction, answer.loaded, settings.model_name)

    return ask


def _pointer(store: str, model: str, version: str) -> Pointer:
    registry = open_registry(store, model)
    if version.strip().lower() == CANARY:
        return registry.canary().pointer
    version = version_of(registry, version)
    return Pointer(version, registry.manifest(version)[1])
