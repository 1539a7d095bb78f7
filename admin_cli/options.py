"""Options that several commands share, and the registry that they name."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer

from classifier.registry.rules import Registry
from classifier.storage.opening import open_store

StoreOption = Annotated[
    str, typer.Option("--store", envvar="MODEL_STORE", help="gs://bucket/prefix or a folder.", show_envvar=True)
]
ModelOption = Annotated[str, typer.Option("--model", envvar="MODEL_NAME", help="The model's name in the store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WhoOption = Annotated[str, typer.Option("--who", envvar="POINTER_WHO", help="Recorded. Default: the user's name.")]
VersionArgument = Annotated[str, typer.Argument(help="Such as v7.")]

DEFAULT_STORE = ".model-store"
DEFAULT_MODEL = "food"


def open_registry(store: str, model: str) -> Registry:
    """Return the registry of one model in one store."""
    return Registry(open_store(store), model)


def name_of(who: str) -> str:
    """Return the name to record: the one given, or the user's."""
    if who:
        return who
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
