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

# It is announced when it answers, by a process beside it, which ends with it: $$ is the server's number too.
python - "$LISTEN" "$PORT" $$ "Pointer serves $MODEL_NAME from $MODEL_STORE at http://localhost:$PORT (Ctrl-C stops it)" <<'END' &
import http.client, os, sys, time

listen, port, server, announcement = sys.argv[1:]
while True:
    try:
        os.kill(int(server), 0)
        function = http.client.HTTPConnection(listen, int(port), timeout=5)
        function.request("GET", "/healthz")
        function.getresponse().close()
        print(announcement, flush=True)
        break
    except ProcessLookupError:
        break
    except (OSError, http.client.HTTPException):
        time.sleep(0.05)
END
exec functions-framework --target predict --source functions/main.py --host "$LISTEN" --port "$PORT"
