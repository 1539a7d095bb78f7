#!/usr/bin/env bash
# Serves the function; when nothing is promoted yet, first makes the sample model.
# Called by `make run`, which puts the virtual environment on PATH and sets MODEL_STORE, MODEL_NAME, SAMPLES, RUN, LISTEN
# and PORT.
set -euo pipefail

# Before minutes of training, and before anything is announced.
python - "$LISTEN" "$PORT" <<'END'
import errno, socket, sys

listen, port = sys.argv[1:]
try:
    socket.create_server((listen, int(port))).close()
except (OSError, OverflowError, ValueError) as error:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        sys.exit(f"Port {port} of {listen} is in use. Choose another one: make run PORT=8081")
    sys.exit(f"Expected LISTEN to be an address of this machine and PORT a free port; received {listen!r} and {port!r}.")
END

# 3 is "not found". Any other failure (a store out of reach, a broken manifest) is for a person to look at.
status=0
found=$(admin_cli show production --json 2>&1 >/dev/null) || status=$?
if [ "$status" -eq 3 ]; then
    echo "Nothing is promoted in $MODEL_STORE yet: training the sample model, a minute or two."
    bash "$(dirname "$0")/sample_model.sh"
elif [ "$status" -ne 0 ]; then
    echo "$found" >&2
    exit "$status"
fi
echo "Pointer serves $MODEL_NAME from $MODEL_STORE at http://localhost:$PORT (Ctrl-C stops it)"
exec functions-framework --target predict --source functions/main.py --host "$LISTEN" --port "$PORT"
