"""How an option of a training is declared: a field of a dataclass, with its help and its limits beside its type.

The command line, the check of a configuration file, the refusal of options without effect and the documentation are all
made from these fields: an option that is added needs nothing but its field, and the code that it is for.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Option:
    """What is said of a field besides its type and default: ``rate: Annotated[float, Option("…", 0, 1)] = 0.1``."""

    help: str
    low: float = -math.inf
    """Smallest number; of a list, of each of its."""
    high: float = math.inf
    default: str | None = None
    """What the default None stands for, in words."""
    path: bool = False
    """Whether a text names a file."""
    place: bool = False
    """Whether a text may name a place on this machine besides what else it may be."""
    alias: str | None = None
    """Another name that it has had, such as ``--former``."""
    most: int | None = None
    """Largest length of a list."""
    needs: str | None = None
    """Another field of its section, such as ``teacher``, without which it has no effect."""
    idle_with: tuple[str, ...] = ()
    """What leaves it without effect, such as ``--no-augment``; see `trainer.run.effect`."""

    @property
    def names_a_place(self) -> bool:
        """Return whether a text may name a place on this machine, of which only the last part is published."""
        return self.path or self.place


@dataclass(frozen=True)
class Declared:
    """One field of a dataclass of options."""

    name: str
    hint: Any
    """Its type, without the `Option`."""
    option: Option
    default: Any
    """`dataclasses.MISSING` where it has to be given."""

    @property
    def flag(self) -> str:
        """Return its name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_list(self) -> bool:
        """Return whether it has several values: a text with commas on the command line."""
        return typing.get_origin(self.hint) is tuple


def declared(kind: type[Any]) -> Iterator[Declared]:
    """Yield the fields of a dataclass of options, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint, *extras = typing.get_args(hints[field.name])
        (option,) = [extra for extra in extras if isinstance(extra, Option)]
        yield Declared(field.name, hint, option, field.default)
