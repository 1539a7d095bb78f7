"""What arguments the resources of deploy/terraform have, taken from the published schema of Google's provider.

    pip download --no-deps cdktn-provider-google==21.1.0 cdktn-provider-google-beta==21.1.0
    python -m tests.support.terraform_schema *.whl

writes tests/data/terraform_google.json. Those wheels are bindings that CDK Terrain generates from the schema of each
release of the provider; they have 70 MB each, so what is used of them is kept here: by type of resource the arguments,
whether each has to be given, and those of its blocks. Run it again after using another resource, or for another
release.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import hcl2

from tests.support.processes import ROOT

FILES = ROOT / "deploy/terraform"
KEPT = ROOT / "tests/data/terraform_google.json"
META = ("connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners", "id_input", "id")
"""What every resource may have besides."""


def blocks(kind: str) -> list[tuple[Any, ...]]:
    """Return what the files have of a kind: of a resource type and name, of a variable its name, and the body."""
    found: list[Any] = []
    for path in sorted(FILES.glob("*.tf")):
        with path.open() as file:
            for block in hcl2.load(file).get(kind, []):
                found += _unpacked(block, 2 if kind in ("resource", "data") else 0 if kind == "locals" else 1)
    return found


def _unpacked(block: dict[str, Any], labels: int) -> list[tuple[Any, ...]]:
    if not labels:
        return [({name: value for name, value in block.items() if not name.startswith("__")},)]
    return [
        (name.strip('"'), *rest)
        for name, inner in block.items()
        if not name.startswith("__")
        for rest in _unpacked(inner, labels - 1)
    ]


def schema(wheel: zipfile.ZipFile, type_: str, *, data: bool = False) -> dict[str, Any]:
    """Return the arguments of a type of resource."""
    package = next(name.partition("/")[0] for name in wheel.namelist() if name.startswith("cdktn_provider_google"))
    names = (f"data_{type_}",) if data else (type_.removeprefix("google_"), type_)
    module = next(each for each in names if f"{package}/{each}/__init__.py" in wheel.namelist())
    text = wheel.read(f"{package}/{module}/__init__.py").decode()
    classes = {each.name: each for each in ast.parse(text).body if isinstance(each, ast.ClassDef)}
    name = next(
        each for each in classes if each.endswith("Config") and each.lower() == f"{module.replace('_', '')}config"
    )
    return _arguments(classes, name)


def _arguments(classes: dict[str, ast.ClassDef], name: str) -> dict[str, Any]:
    (made,) = (each for each in classes[name].body if isinstance(each, ast.FunctionDef) and each.name == "__init__")
    found: dict[str, Any] = {}
    for argument, default in zip(made.args.kwonlyargs, made.args.kw_defaults, strict=True):
        if argument.arg in META or argument.annotation is None:
            continue
        inner = [each for each in re.findall(r"\w+", ast.unparse(argument.annotation)) if each in classes]
        found[argument.arg] = {
            "required": default is None,
            **({"block": _arguments(classes, inner[0])} if inner and not inner[0].endswith("Timeouts") else {}),
        }
    return found


def release(wheel: zipfile.ZipFile) -> str:
    """Return which release of the provider the bindings are of."""
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    found = re.search(r"provider version (\S+)", wheel.read(metadata).decode())
    assert found
    return found[1]


def main() -> None:
    """Write the file."""
    kept: dict[str, Any] = {}
    for path in sys.argv[1:]:
        with zipfile.ZipFile(path) as wheel:
            beta = "beta" in Path(path).name
            provider = kept.setdefault("google-beta" if beta else "google", {"release": release(wheel)})
            for kind in ("resource", "data"):
                for type_, _, body in blocks(kind):
                    if str(body.get("provider", "google")).strip("${}").startswith("google-beta") == beta:
                        provider.setdefault(kind, {})[type_] = schema(wheel, type_, data=kind == "data")
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
