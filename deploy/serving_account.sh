#!/usr/bin/env bash
# The account that the functions run as, what it may do with the model bucket, and functions/.env, which deploys with it.
# Reads PROJECT and MODEL_STORE (gs://BUCKET/PREFIX); REGION is us-central1 unless it is set. May be run again.
# docs/deploy.md (steps 3 and 5) does the same by hand, and narrows it.
set -euo pipefail
settings="$(dirname "$0")/../functions/.env"
: "${PROJECT:?PROJECT has to be the project\'s id: export PROJECT=my-pointer}"
: "${MODEL_STORE:?MODEL_STORE has to be gs://BUCKET/PREFIX: export MODEL_STORE=gs://$PROJECT-models/models}"
if [[ $MODEL_STORE != gs://?*/?* ]]; then
    echo "MODEL_STORE has to be gs://BUCKET/PREFIX, and is $MODEL_STORE." >&2
    exit 2
fi
bucket=${MODEL_STORE#gs://}
bucket=gs://${bucket%%/*}
account=pointer-serving@$PROJECT.iam.gserviceaccount.com

if ! gcloud iam service-accounts describe "$account" --project="$PROJECT" >/dev/null 2>&1; then
    gcloud iam service-accounts create pointer-serving --project="$PROJECT" --display-name="Pointer, serving"
fi
for role in objectViewer objectCreator; do # reads, adds counts and corrections, changes nothing that is there
    gcloud storage buckets add-iam-policy-binding "$bucket" --member="serviceAccount:$account" \
        --role="roles/storage.$role" --condition=None
done
wanted="MODEL_STORE=$MODEL_STORE
MODEL_NAME=${MODEL_NAME:-food}
RATE_LIMIT=60/minute
FUNCTION_ACCOUNT=$account
FUNCTION_LOCATION=${REGION:-us-central1}"
if [[ ! -e $settings ]]; then
    echo "$wanted" >"$settings"
elif [[ $(<"$settings") != "$wanted" ]]; then
    printf '%s\n' "functions/.env is there already and stays as it is. It was to hold:" "$wanted" >&2
    exit 1
fi
echo "functions/.env: $account serves ${MODEL_NAME:-food} from $MODEL_STORE."
