"""The options that several commands share, and how they become objects of options.

Those of a training are declared in `trainer.run.sections`, those of an export in `trainer.run.export_options`, and
nowhere else; `of` makes Typer's of them.
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from classifier.errors import InvalidSetting, NotFound
from trainer.commands.grouping import OWN
from trainer.run.config import SECTIONS, TrainingConfig
from trainer.run.declarations import Declared, declared
from trainer.run.export_options import ExportOptions
from trainer.run.sections import LARGEST_HEAD, DataConfig, NetworkConfig

EXPORT, HARDWARE, SEARCH = "Export", "Hardware", "Search"
GROUPS = {"data": "Data", "network": "Network", "schedule": "Training", "export": EXPORT, "compute": HARDWARE}
"""The head of the help under which the options of a section stand, and the order of these heads."""
ORDER = (OWN, SEARCH, *GROUPS.values())
OPTIONS: dict[str, tuple[str, Declared]] = {
    each.name: (GROUPS[section], each)
    for section, kind in {**SECTIONS, "export": ExportOptions}.items()
    for each in declared(kind)
}
"""Head and declaration by name; ``seed``, which two sections have, stands under the training's."""


def of(name: str) -> Any:
    """Return Typer's option for a declared one."""
    head, each = OPTIONS[name]
    option = each.option
    return typer.Option(
        *([each.flag, option.alias] if option.alias else []),
        help=option.help if option.default is None else f"{option.help} Default: {option.default}.",
        # Of a list these are of each of its values, and on the command line it is a text.
        min=option.low if math.isfinite(option.low) and not each.is_list else None,
        max=option.high if math.isfinite(option.high) and not each.is_list else None,
        rich_help_panel=head,
    )


RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run; an interrupted run is resumed.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]
DataDirOption = Annotated[str | None, of("data_dir")]
ClassesOption = Annotated[str, of("classes")]
FirstClassesOption = Annotated[int | None, of("first_classes")]
RandomClassesOption = Annotated[int | None, of("random_classes")]
MaxPerClassOption = Annotated[int | None, of("max_per_class")]
CsvOption = Annotated[Path | None, of("csv")]
ImageColumnOption = Annotated[str, of("image_column")]
LabelColumnOption = Annotated[str, of("label_column")]
SplitColumnOption = Annotated[str, of("split_column")]
SeparatorOption = Annotated[str | None, of("separator")]
EncodingOption = Annotated[str | None, of("encoding")]
CacheOption = Annotated[
    float | None,
    typer.Option(
        help="GB of memory for decoded photos. Default: a quarter of the machine's.", min=0, rich_help_panel=HARDWARE
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Threads that decode. Default: one a CPU.", min=1, rich_help_panel=HARDWARE)
]
ConfigOption = Annotated[
    Path | None, typer.Option(help="JSON with options, such as tune's best.json; the command line goes first.")
]


def declared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the objects that it takes besides its own, in the groups of the help.

    It gets a ``config: TrainingConfig``, read from --config where that is given, and its other objects of options as
    the command line says.
    """
    signature = inspect.signature(command, eval_str=True).parameters
    objects = {
        name: each.annotation
        for name, each in signature.items()
        if each.annotation in (TrainingConfig, NetworkConfig, ExportOptions)
    }
    own = {name: each for name, each in signature.items() if name not in objects}
    shared = {each: _parameter(each) for kind in objects.values() for each in _names(kind)}
    if TrainingConfig in objects.values():
        shared["config"] = _keyword("config", ConfigOption, None)

    @functools.wraps(command)
    def parsed(context: typer.Context, **values: Any) -> None:
        given = {
            name: values[name]
            for name in shared
            if name != "config" and (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
        }
        made = {
            name: read_config(values["config"], given)
            if kind is TrainingConfig
            else _made(kind, {each: values[each] for each in _names(kind)})
            for name, kind in objects.items()
        }
        command(**{name: values[name] for name in own}, **made)

    every = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.values()]
    ordered = sorted([*every, *shared.values()], key=_place)
    parameters = [_keyword("context", typer.Context, inspect.Parameter.empty), *ordered]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    # Typer reads the hints of what it wraps as well.
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del parsed.__wrapped__
    return parsed


def read_config(file: Path | None, given: Mapping[str, Any]) -> TrainingConfig:
    """Return the configuration of a file, or the defaults, with the given options in their place.

    Args:
        file: JSON with any of the sections data, network, schedule and compute, such as a run's config.json.
        given: values by option; ``seed`` is that of the data and of the training.

    Raises:
        NotFound: there is no such file.
        InvalidSetting: it is not a configuration.
        typer.BadParameter: there is no data set.
    """
    plain = _read_file(file) if file else {}
    if file:
        _require_usable(file, plain)
    for section, kind in SECTIONS.items():
        plain[section] = dict(plain.get(section, {})) | {
            option.name: _plain(option.name, given[option.name]) for option in fields(kind) if option.name in given
        }
    if not plain["data"].get("data_dir"):
        plain["data"]["data_dir"] = folder_of_table(plain["data"].get("dataset"), plain["data"].get("csv"))
    missing = [
        f"--{option.name.replace('_', '-')}"
        for option in fields(DataConfig)
        if option.default is MISSING and not plain["data"].get(option.name)
    ]
    if missing:
        raise typer.BadParameter(f"Expected {' and '.join(missing)}; received none.")
    return TrainingConfig.from_json(plain)


def folder_of_table(dataset: str | None, csv: str | Path | None) -> str | None:
    """Return the folder from which a table's paths count unless --data-dir says otherwise: its own."""
    return str(Path(csv).parent) if dataset == "csv" and csv else None


def class_names(text: str) -> tuple[str, ...]:
    """Return the labels of --classes."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_file(path: Path) -> dict[str, Any]:
    from trainer.run.files import read_json

    if not path.is_file():
        raise NotFound(f"Expected a configuration at --config {path}; there is none.")
    plain = read_json(path)
    if not isinstance(plain, dict) or not set(plain) <= set(SECTIONS):
        found = ", ".join(plain) if isinstance(plain, dict) else type(plain).__name__
        raise InvalidSetting(f"Expected the sections {', '.join(SECTIONS)} in {path}; received {found}.")
    return plain


def _require_usable(path: Path, plain: dict[str, Any]) -> None:
    """Refuse a file's values before the command line's take their place: the message names the file.

    Raises:
        InvalidSetting: one of them is not what it has to be.
    """
    required = {option.name: "" for option in fields(DataConfig) if option.default is MISSING}
    sections = {section: plain.get(section, {}) for section in SECTIONS}
    if isinstance(sections["data"], dict):
        sections["data"] = required | sections["data"]
    try:
        TrainingConfig.from_json(sections)
    except InvalidSetting as error:
        raise InvalidSetting(f"{path}: {error}") from error


def _plain(name: str, value: Any) -> Any:
    if name == "hidden":
        return _widths(value)
    if name == "classes":
        return class_names(value)
    return str(value) if isinstance(value, Path) else value


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        widths = ()
    if any(width < 1 for width in widths) or (text.strip() and not widths) or len(widths) > LARGEST_HEAD:
        raise typer.BadParameter(f"Expected --hidden to be up to two widths such as 256,128; received {text!r}.")
    return widths


def _made(kind: type[Any], values: dict[str, Any]) -> Any:
    """Return an object of options from those of the command line; a configuration's are plain values."""
    plain = kind in SECTIONS.values()
    return kind(**{name: _plain(name, value) if plain else value for name, value in values.items()})


def _names(kind: type[Any]) -> list[str]:
    """Return the names of the options of an object, those of a configuration's sections in its own order."""
    kinds = SECTIONS.values() if kind is TrainingConfig else [kind]
    return list(dict.fromkeys(each.name for section in kinds for each in declared(section)))


def _parameter(name: str) -> inspect.Parameter:
    """Return the parameter by which Typer asks for a declared option."""
    _, each = OPTIONS[name]
    hint, default = each.hint, each.default
    if each.is_list:
        hint, default = str, ""
    elif each.option.path:
        hint = Path | None
    elif default is MISSING:
        hint, default = hint | None, None
    return _keyword(name, Annotated[hint, of(name)], default)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _place(parameter: inspect.Parameter) -> int:
    """Return where the group of an option stands in the help; a command's own ones come first."""
    said = next((each for each in typing.get_args(parameter.annotation) if hasattr(each, "rich_help_panel")), None)
    return ORDER.index(getattr(said, "rich_help_panel", None) or OWN)
