#!/usr/bin/env bash
# Draws the sample photos, trains the sample model on them, publishes and promotes it.
# Needs the virtual environment on PATH, and MODEL_STORE, MODEL_NAME, SAMPLES and RUN.
set -euo pipefail

notice="A demonstration: trained on drawings of five foods, not on photos. Train it on photos of your own."
trainer samples "$SAMPLES" --size 224
# Only the head is trained: the network's ImageNet weights, which come with the packages, know enough of drawings. What
# else a training does is left out for the time it takes; "trainer export" and "trainer report" do it later.
trainer train --dataset food-101 --data-dir "$SAMPLES" --architecture efficientnet_lite0 --fine-tune-epochs 0 \
    --head-epochs 30 --head-learning-rate 3e-3 --variant float32 --no-report --notice "$notice" --run "$RUN"
# Its photos are drawings of this project: anybody may see them.
published=$(admin_cli publish "$RUN" --samples 4)
echo "$published"
# It says "published v1", or of what was published before "v1 is the same".
admin_cli promote "$(grep -o 'v[0-9]*' <<<"$published" | head -n 1)" --reason "sample model"
