"""Options that several commands share, and the registry that they name."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer

from classifier.errors import NotFound
from classifier.registry.catalogue import version_name
from classifier.registry.channels import PRODUCTION, Pointer
from classifier.registry.rules import Registry
from classifier.storage.opening import open_store

StoreOption = Annotated[
    str, typer.Option("--store", envvar="MODEL_STORE", help="gs://bucket/prefix or a folder.", show_envvar=True)
]
ModelOption = Annotated[str, typer.Option("--model", envvar="MODEL_NAME", help="The model's name in the store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WhoOption = Annotated[str, typer.Option("--who", envvar="POINTER_WHO", help="Recorded. Default: the user's name.")]
VersionArgument = Annotated[str, typer.Argument(help="Such as v7, or production.")]
NEWEST = 20
"""How many a list shows unless more are asked for."""
LimitOption = Annotated[int | None, typer.Option("--limit", help=f"How many of the newest. Default: {NEWEST}.", min=1)]

DEFAULT_STORE = ".model-store"
DEFAULT_MODEL = "food"


def open_registry(store: str, model: str) -> Registry:
    """Return the registry of one model in one store."""
    return Registry(open_store(store), model)


def version_of(registry: Registry, text: str) -> str:
    """Return the version that a user names as v7, V7, 7 or production.

    Raises:
        NotFound: nothing is promoted, or there is no such model.
    """
    if text.strip().lower() != PRODUCTION:
        return version_name(text)
    return serving(registry).version


def serving(registry: Registry) -> Pointer:
    """Return what production serves.

    Raises:
        NotFound: nothing is promoted, or there is no such model.
    """
    channels = registry.known_channels(newest=0)
    if channels.production is None:
        raise NotFound(
            f"No version of {registry.model} is promoted in {registry.store.url}. "
            "`admin_cli promote v1` promotes the first."
        )
    return channels.production


def name_of(who: str) -> str:
    """Return the name to record: the one given, or the user's."""
    if who:
        return who
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def model_for_url(context: typer.Context, model: str) -> str | None:
    """Return the model that a running function is asked for: the one of --model; None for the function's own default.

    MODEL_NAME is about the store, which the function need not share.
    """
    source = context.get_parameter_source("model")
    return model if source is not None and source.name == "COMMANDLINE" else None
