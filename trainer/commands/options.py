"""The options that several commands share, and how they become objects of options.

Those of a training are declared in `trainer.run.sections`, those of an export in `trainer.run.export_options`, and
nowhere else; `declared_options` makes Typer's of them.
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from classifier.errors import InvalidRequest, InvalidSetting, NotFound
from trainer.commands.grouping import OWN
from trainer.run.config import SECTIONS, TrainingConfig
from trainer.run.declarations import Declared, declared
from trainer.run.export_options import ExportOptions
from trainer.run.sections import DataConfig, NetworkConfig

EXPORT, HARDWARE, SEARCH = "Export", "Hardware", "Search"
GROUPS = {"data": "Data", "network": "Network", "schedule": "Training", "export": EXPORT, "compute": HARDWARE}
"""The head of the help under which the options of a section stand, and the order of these heads."""
PHOTOS = (
    "dataset", "data_dir", "csv", "image_column", "label_column", "split_column", "separator", "encoding", "classes",
    "first_classes", "random_classes", "max_per_class", "seed",
)  # fmt: skip
"""The options by which photos are found, without those that are about a training."""
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
    return _typers(each, head)


@dataclass(frozen=True)
class Only:
    """Which of an object's options a command has: ``Annotated[DataConfig, Only(PHOTOS)]``; the rest is as declared."""

    names: tuple[str, ...]


PhotosOptions = Annotated[DataConfig | None, Only(PHOTOS)]
"""A data set, or None where no --dataset is given."""


RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run; an interrupted run is resumed.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.")]
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


def given_flags(context: typer.Context, *, but: Collection[str] = ()) -> list[str]:
    """Return the options that were given, as they are typed, without those of these names."""
    sources = {name: context.get_parameter_source(name) for name in context.params if name not in but}
    return [f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name != "DEFAULT"]


def declared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the objects that it takes besides its own, in the groups of the help.

    It gets a ``config: TrainingConfig``, read from --config where that is given, and its other objects of options as
    the command line says.
    """
    signature = inspect.signature(command, eval_str=True).parameters
    objects = {name: asked for name, each in signature.items() if (asked := _asked(each.annotation)) is not None}
    own = {name: each for name, each in signature.items() if name not in objects}
    shared = {each.name: _parameter(each, asked) for asked in objects.values() for each in asked.options()}
    if any(asked.kind is TrainingConfig for asked in objects.values()):
        shared["config"] = _keyword("config", ConfigOption, None)

    @functools.wraps(command)
    def parsed(context: typer.Context, **values: Any) -> None:
        given = {
            name: values[name]
            for name in shared
            if name != "config" and (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
        }
        made = {
            name: read_config(values["config"], given) if asked.kind is TrainingConfig else asked.made_of(values)
            for name, asked in objects.items()
            if asked.required or values.get("run") is None
        }
        made |= {name: None for name in objects if name not in made}  # a run has its own photos
        command(**{name: context if name == "context" else values[name] for name in own}, **made)

    every = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, each in own.items() if name != "context"]
    ordered = sorted([*every, *shared.values()], key=_place)
    parameters = [_keyword("context", typer.Context, inspect.Parameter.empty), *ordered]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    # Typer reads the hints of what it wraps as well.
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del parsed.__wrapped__
    return parsed


@dataclass(frozen=True)
class _Asked:
    """An object of options that a command takes."""

    kind: type[Any]
    names: tuple[str, ...] | None
    """Those that it has; None means all."""
    required: bool
    """Whether there has to be one."""

    def options(self) -> list[Declared]:
        """Return the declarations, those of a configuration's sections in its own order."""
        kinds = SECTIONS.values() if self.kind is TrainingConfig else [self.kind]
        every = {each.name: each for kind in kinds for each in declared(kind)}
        return [each for name, each in every.items() if self.names is None or name in self.names]

    def made_of(self, values: Mapping[str, Any]) -> Any:
        """Return the object, or None if it need not be and is not.

        Raises:
            InvalidRequest: a data set without its folder.
        """
        plain = self.kind in SECTIONS.values()
        given = {each.name: _plain(each, values[each.name]) if plain else values[each.name] for each in self.options()}
        if self.kind is not DataConfig:
            return self.kind(**given)
        if given["dataset"] is None:
            return None
        given["data_dir"] = given["data_dir"] or _folder_of_table(given["dataset"], given["csv"])
        if given["data_dir"] is None:
            raise InvalidRequest("Expected --data-dir with --dataset; received none.")
        return DataConfig(**given)


def _asked(annotation: Any) -> _Asked | None:
    """Return which object of options a parameter of a command is; None if it is an option of its own."""
    kind, *extras = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (annotation,)
    only = next((each for each in extras if isinstance(each, Only)), None)
    required = kind != (DataConfig | None)
    kind = kind if required else DataConfig
    if kind not in (TrainingConfig, NetworkConfig, DataConfig, ExportOptions):
        return None
    return _Asked(kind, None if only is None else only.names, required)


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
            each.name: _plain(each, given[each.name]) for each in declared(kind) if each.name in given
        }
    if not plain["data"].get("data_dir"):
        plain["data"]["data_dir"] = _folder_of_table(plain["data"].get("dataset"), plain["data"].get("csv"))
    missing = [
        each.flag for each in declared(DataConfig) if each.default is MISSING and not plain["data"].get(each.name)
    ]
    if missing:
        raise typer.BadParameter(f"Expected {' and '.join(missing)}; received none.")
    return TrainingConfig.from_json(plain)


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


def _plain(each: Declared, value: Any) -> Any:
    """Return a value of the command line as a section has it."""
    if each.is_list and isinstance(value, str):
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        return parts if str in typing.get_args(each.hint) else _widths(each, value, parts)
    return str(value) if isinstance(value, Path) else value


def _widths(each: Declared, text: str, parts: tuple[str, ...]) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in parts)
    except ValueError:
        widths = ()
    too_many = each.option.most is not None and len(widths) > each.option.most
    if any(width < each.option.low for width in widths) or (text.strip() and not widths) or too_many:
        raise typer.BadParameter(f"Expected {each.flag} to be up to two widths such as 256,128; received {text!r}.")
    return widths


def _folder_of_table(dataset: str | None, csv: str | Path | None) -> str | None:
    """Return the folder from which a table's paths count unless --data-dir says otherwise: its own."""
    return str(Path(csv).parent) if dataset == "csv" and csv else None


def _parameter(each: Declared, asked: _Asked) -> inspect.Parameter:
    """Return the parameter by which Typer asks for a declared option."""
    hint, default = each.hint, each.default
    if each.is_list:
        hint, default = str, ""
    elif each.option.path:
        hint = Path | None
    elif default is MISSING and each.name == "dataset" and asked.kind is DataConfig and asked.required:
        default = inspect.Parameter.empty
    elif default is MISSING:
        hint, default = hint | None, None
    head = GROUPS["data"] if asked.kind is DataConfig else OPTIONS[each.name][0]
    return _keyword(each.name, Annotated[hint, _typers(each, head)], default)


def _typers(each: Declared, head: str) -> Any:
    """Return Typer's option for a declared one, under a head of the help."""
    option = each.option
    return typer.Option(
        *([each.flag, option.alias] if option.alias else []),
        help=option.help if option.default is None else f"{option.help} Default: {option.default}.",
        # Of a list these are of each of its values, and on the command line it is a text.
        min=option.low if math.isfinite(option.low) and not each.is_list else None,
        max=option.high if math.isfinite(option.high) and not each.is_list else None,
        rich_help_panel=head,
    )


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _place(parameter: inspect.Parameter) -> int:
    """Return where the group of an option stands in the help; a command's own ones come first."""
    said = next((each for each in typing.get_args(parameter.annotation) if hasattr(each, "rich_help_panel")), None)
    return ORDER.index(getattr(said, "rich_help_panel", None) or OWN)
