"""Makes the tests independent of whoever runs them; importing it does so, before anything reads the environment.

Of the environment only what says where programs, temporary files and test data are is kept: no terminal's width or
colours, no language, no proxy, no credentials, no setting of Pointer's. The home folder is an empty one.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

KEPT = re.compile(
    r"PATH|TMPDIR|VIRTUAL_ENV|USER|LOGNAME|CI|POINTER_(DATA|WEIGHTS|BASE_IMAGE|SAMPLE)|BUILDAH_\w+|STORAGE_DRIVER|LD_\w+|CUDA_\w+|NVIDIA_\w+"
    r"|PYTHON(DONTWRITEBYTECODE|UTF8|PYCACHEPREFIX)|(PYTEST|COVERAGE|COV_CORE)_?\w*"
)
ONE_THREAD = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
"""There is a worker for each CPU already."""
ALWAYS = {"LANG": "C.UTF-8", "COLUMNS": "80", "TZ": "UTC", **ONE_THREAD}
HOME = "PYTEST_HOME"
"""Where the home folder of these tests is: their own processes, such as xdist's workers, share it."""
ROOT = Path(__file__).resolve().parents[2]


def _become_independent() -> None:
    for name in list(os.environ):
        if not KEPT.fullmatch(name):
            del os.environ[name]
    if HOME not in os.environ:
        os.environ[HOME] = tempfile.mkdtemp(prefix="pointer-home-")
        atexit.register(shutil.rmtree, os.environ[HOME], ignore_errors=True)
    # Matplotlib lists the fonts in it, which takes seconds: once, not for every session.
    fonts = ROOT / ".pytest_cache" / "matplotlib"
    os.environ.update({**ALWAYS, "HOME": os.environ[HOME], "MPLCONFIGDIR": str(fonts)})
    time.tzset()


_become_independent()
