#!/usr/bin/env bash
# Draws the sample photos, trains the sample model on them, publishes and promotes it.
# Needs the virtual environment on PATH, and MODEL_STORE, MODEL_NAME, SAMPLES and RUN.
set -euo pipefail

trainer samples "$SAMPLES"
trainer train --dataset food-101 --data-dir "$SAMPLES" --architecture base_cnn --weights none --patience 30 --run "$RUN"
published=$(admin_cli publish "$RUN")
echo "$published"
admin_cli promote "${published#published }" --reason "sample model"
