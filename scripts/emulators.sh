#!/usr/bin/env bash
# Serves functions, hosting and auth with Firebase's emulators, at http://127.0.0.1:5000, until Ctrl-C.
# Called by `make emulators`, which installs firebase-tools and sets MODEL_STORE and MODEL_NAME.
set -euo pipefail
cd "$(dirname "$0")/.."

# firebase-tools runs the functions in functions/venv; it is the virtual environment that is here already.
if [ ! -e functions/venv ]; then
    ln -sfn ../.venv functions/venv
fi
if [ ! -x functions/venv/bin/python3.11 ]; then
    echo "Expected functions/venv to have Python 3.11, as firebase.json says; run: make install PYTHON=python3.11" >&2
    exit 1
fi

# What only the emulators read, and what they would otherwise look up outside.
case "$MODEL_STORE" in
gs://*) store="$MODEL_STORE" ;;
*) store="$(realpath -m "$MODEL_STORE")" ;;
esac
printf 'MODEL_STORE=%s\nMODEL_NAME=%s\n' "$store" "$MODEL_NAME" >functions/.env.local
touch functions/.secret.local

# Its processes outlive firebase-tools: they are a group, which ends as a whole.
NODE_OPTIONS="--require=$PWD/scripts/no_keep_alive.cjs" setsid node_modules/.bin/firebase emulators:start --project demo-pointer --only functions,hosting,auth </dev/null &
group=$!
end() {
    trap - EXIT INT TERM
    kill -INT -- "-$group" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 -- "-$group" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$group" 2>/dev/null || true
}
trap end EXIT
trap 'exit 130' INT TERM
wait "$group"
