"""Puts LiteRT.js where the function serves it from with ON_DEVICE=1: functions/litert/VERSION (`make litert`).

What npm installed, of the version and with the hashes of package-lock.json, compressed: 6 MB instead of 19.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / "node_modules" / "@litertjs"
TARGET = ROOT / "functions" / "litert"
BUILDS = ("litert_wasm_internal", "litert_wasm_compat_internal")
"""The one for browsers of today, and the one for those whose WebAssembly has no relaxed SIMD."""


def install(target: Path, packages: Path = PACKAGES) -> str:
    """Replace what is in `target` by LiteRT.js, and return its version."""
    core, utils = packages / "core", packages / "wasm-utils"
    version = str(json.loads((core / "package.json").read_text(encoding="utf-8"))["version"])
    files = {
        # Workers know no import maps: what a package calls another one by becomes a place.
        "index.js": (core / "dist/index.js").read_bytes().replace(b'"@litertjs/wasm-utils"', b'"./wasm-utils.js"'),
        "wasm-utils.js": (utils / "dist/index.js").read_bytes(),
        **{
            f"wasm/{name}": (core / "wasm" / name).read_bytes()
            for build in BUILDS
            for name in (f"{build}.js", f"{build}.wasm")
        },
    }
    shutil.rmtree(target, ignore_errors=True)
    for name, content in files.items():
        path = target / version / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, mtime=0))
    return version


if __name__ == "__main__":
    if not PACKAGES.is_dir():
        sys.exit(f"Expected LiteRT.js in {PACKAGES}; it is not there. Run make litert, which installs it.")
    print(f"LiteRT.js {install(TARGET)} in {TARGET.relative_to(ROOT)}")  # noqa: T201
