"""A command whose help lists its options in groups, as plain text: at any width, with and without colours."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

OWN = "Options"
"""The group of options that name none."""


class GroupedCommand(TyperCommand):
    """Lists arguments first, then the options of each group (their ``rich_help_panel``) in the order of the groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the lists."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            own = "Arguments" if parameter.param_type_name == "argument" else OWN
            groups.setdefault(getattr(parameter, "rich_help_panel", None) or own, []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)
