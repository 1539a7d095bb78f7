"""Lets a benchmark write what it prints into its own section of docs/benchmarks.md, with date, machine and command.

    python bench/status.py --write docs/benchmarks.md

A section lies between two comments that name the program; one that is not there yet is appended. A program that fails
writes nothing.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

OPTION = "--write"
CPUINFO = Path("/proc/cpuinfo")


class _Twice(io.StringIO):
    """Keeps what is printed, and prints it."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]
        return super().write(text)


def program(main: Callable[[], None]) -> None:
    """Run a benchmark; with `--write PAGE` among its arguments, put what it prints into the page."""
    page = _taken(sys.argv)
    if page is None:
        main()
        return
    name, command = Path(sys.argv[0]).name, shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    if not page.is_file():
        sys.exit(f"Expected {OPTION} to name a page that exists; received {page}.")
    with redirect_stdout(_Twice()) as printed:
        main()
    text = section(name, command, printed.getvalue(), when=datetime.now(UTC), where=machine())
    page.write_text(replaced(page.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    print(f"wrote the section of {name} in {page}")


def section(name: str, command: str, printed: str, *, when: datetime, where: str) -> str:
    """Return a section as Markdown, its comments included."""
    return (
        f"<!-- {name}: begin -->\n{when:%Y-%m-%d}, {where}:\n\n"
        f"```text\n$ {command}\n{printed.rstrip()}\n```\n<!-- {name}: end -->"
    )


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with this section in place of the one of before, or at its end.

    Raises:
        ValueError: a section begins and does not end.
    """
    pattern = rf"<!-- {re.escape(name)}: begin -->.*?<!-- {re.escape(name)}: end -->"
    new, count = re.subn(pattern, lambda _: text, page, flags=re.DOTALL)
    if not count and f"<!-- {name}: begin -->" in page:
        raise ValueError(f"Expected the section of {name} to end with <!-- {name}: end -->; the page has no such line.")
    return new if count else f"{page.rstrip()}\n\n## {name}\n\n{text}\n"


def machine() -> str:
    """Return this machine in words, without its name: how many CPUs of which model, how busy, and Python's release."""
    models = re.findall(r"^model name\s*: (.*)$", CPUINFO.read_text(), re.MULTILINE) if CPUINFO.exists() else []
    model = " ".join((models[0] if models else platform.processor() or platform.machine()).split())
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpus} CPUs ({model}) with a load of {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def _taken(arguments: list[str]) -> Path | None:
    """Take the option and its value out of the arguments."""
    for at, argument in enumerate(arguments):
        if argument == OPTION and at + 1 < len(arguments):
            value = arguments[at + 1]
            del arguments[at : at + 2]
            return Path(value)
        if argument.startswith(f"{OPTION}="):
            del arguments[at]
            return Path(argument.partition("=")[2])
    return None
