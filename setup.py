"""What pyproject.toml cannot say: dependencies that are declared once, and files of `functions/` beside the package.

The requirements files are where a dependency and its version are declared. Of them the wheel requires what
`admin_cli` and the code that runs models need; what only the deployed function, only the trainer, only its ONNX or Core
ML files or only labelling whole buckets need are extras.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FUNCTION = ROOT / "functions"
ANSWERS_REQUESTS = {
    "firebase-admin", "firebase-functions", "flask", "flask-cors", "functions-framework", "gunicorn", "limits", "redis",
}  # fmt: skip
"""What of the function's requirements only a process that answers requests imports: the extra `function`."""
COMMAND_LINE = {"jinja2", "requests", "rich", "typer"}
"""What of the trainer's requirements `admin_cli` needs too."""
DEPLOYED = ("main.py", "openapi.yaml", "web")
"""What the function reads beside its package; in the wheel it is in `classifier/deployed`."""


def requirements(path: Path) -> dict[str, list[str]]:
    """Return a requirements file's own lines by the package that they name; what it includes is not read."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement and not requirement.startswith("-r "):
            name = re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower()
            found.setdefault(name, []).append(requirement)
    return found


class BuildWithDeployedFiles(build_py):
    """Puts the page, the contract and the declarations of the functions into the package that is installed."""

    def run(self) -> None:
        """Build, then copy; an editable installation reads them where they are."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "classifier", "deployed")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in DEPLOYED:
            copy = shutil.copytree if (FUNCTION / name).is_dir() else shutil.copy2
            copy(FUNCTION / name, target / name)


function = requirements(FUNCTION / "requirements.txt")
trainer = requirements(ROOT / "requirements.txt")
onnx = requirements(ROOT / "requirements-onnx.txt")
mlflow = requirements(ROOT / "requirements-mlflow.txt")
coreml = requirements(ROOT / "requirements-coreml.txt")
batch = requirements(ROOT / "requirements-batch.txt")
setup(
    cmdclass={"build_py": BuildWithDeployedFiles},
    install_requires=[
        line
        for name, lines in sorted({**function, **trainer}.items())
        if (name in function and name not in ANSWERS_REQUESTS) or name in COMMAND_LINE
        for line in lines
    ],
    extras_require={
        "function": [line for name, lines in sorted(function.items()) if name in ANSWERS_REQUESTS for line in lines],
        "trainer": [line for name, lines in sorted(trainer.items()) if name not in COMMAND_LINE for line in lines],
        "batch": [line for _, lines in sorted(batch.items()) for line in lines],
        "onnx": [line for _, lines in sorted(onnx.items()) for line in lines],
        "mlflow": [line for _, lines in sorted(mlflow.items()) for line in lines],
        "coreml": [line for _, lines in sorted(coreml.items()) for line in lines],
    },
)
