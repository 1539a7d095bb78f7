"""Dockerfiles, read instead of built: their stages and instructions, and what .dockerignore keeps from them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath

from tests.support.processes import ROOT

KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
Instructions = list[tuple[str, str]]
"""Each with what follows its name."""


def stages(dockerfile: Path) -> dict[str, tuple[str, Instructions]]:
    """Each stage by its name: what it is from, and its instructions. An ARG before the first one is put in."""
    found: dict[str, tuple[str, Instructions]] = {}
    arguments: dict[str, str] = {}
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, rest = line.split(maxsplit=1)
        assert instruction in KNOWN, line
        if instruction == "ARG" and not found:
            name, _, value = rest.partition("=")
            arguments[f"${{{name}}}"] = value
        elif instruction == "FROM":
            origin, _, name = rest.partition(" AS ")
            assert name and name not in found, line
            found[name] = (arguments.get(origin, origin), [])
            current = name
        else:
            found[current][1].append((instruction, rest))
    return found


def all_of(dockerfile: Path, name: str) -> Instructions:
    """The instructions of a stage behind those of the stages that it is from."""
    found = stages(dockerfile)
    origin, own = found[name]
    return (all_of(dockerfile, origin) if origin in found else []) + own


def environment_of(instructions: Instructions) -> dict[str, str]:
    """What the ENV instructions set."""
    settings = " ".join(rest for instruction, rest in instructions if instruction == "ENV")
    return dict(each.split("=", 1) for each in shlex.split(settings))


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the context: its last pattern that matches it or a parent decides."""
    found = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        regex = "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(part, re.escape(part)) for part in _parts(pattern))
        parents = [path, *(str(parent) for parent in PurePosixPath(path).parents)]
        if any(re.fullmatch(regex, parent) for parent in parents):
            found = not line.startswith("!")
    return found


def _parts(pattern: str) -> list[str]:
    return re.findall(r"\*\*/|\*|[^*]+", pattern)


def copied(dockerfile: Path) -> list[tuple[str, str]]:
    """What is copied out of the context, which has it: sources and targets as they are written."""
    found = []
    for name, (_, instructions) in stages(dockerfile).items():
        for instruction, rest in instructions:
            words = shlex.split(rest)
            if instruction != "COPY":
                continue
            if words[0].startswith("--from="):
                stage = words[0].removeprefix("--from=")
                assert stage in stages(dockerfile), (name, rest)
                folder = next(rest for instruction, rest in all_of(dockerfile, stage) if instruction == "WORKDIR")
                assert words[1] == folder
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                assert not ignored(source), source
                found.append((source, words[-1]))
    return found
