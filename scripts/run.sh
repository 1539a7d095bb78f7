#!/usr/bin/env bash
# Serves the function; when nothing is promoted yet, first trains the sample model, publishes and promotes it.
# Called by `make run`, which puts the virtual environment on PATH and sets MODEL_STORE, MODEL_NAME, SAMPLES and PORT.
set -euo pipefail

# 3 is "not found": any other failure (a store out of reach, a broken manifest) is for a person to look at.
status=0
found=$(admin_cli show production --json 2>&1 >/dev/null) || status=$?
if [ "$status" -eq 3 ]; then
    echo "Nothing is promoted in $MODEL_STORE yet: training the sample model (about two minutes)."
    trainer samples "$SAMPLES"
    trainer train --dataset food-101 --data-dir "$SAMPLES" --architecture base_cnn --weights none --run runs/sample
    published=$(admin_cli publish runs/sample)
    echo "$published"
    admin_cli promote "${published#published }" --reason "sample model"
elif [ "$status" -ne 0 ]; then
    echo "$found" >&2
    exit "$status"
fi
echo "Pointer serves $MODEL_NAME from $MODEL_STORE at http://localhost:$PORT (Ctrl-C stops it)"
exec functions-framework --target predict --source functions/main.py --port "$PORT"
