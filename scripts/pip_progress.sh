#!/usr/bin/env bash
# Tells what pip does: at a terminal in one line that changes, elsewhere in a line a step.
while IFS= read -r line; do
    case "$line" in
        "Collecting "*) step="looking up ${line#Collecting }" ;;
        "  Downloading "*) step="downloading ${line#  Downloading }" ;;
        "Installing collected packages"*) step="unpacking $(($(tr -cd , <<<"$line" | wc -c) + 1)) packages, which takes the longest" ;;
        *) continue ;;
    esac
    if [ -t 1 ]; then
        printf '\r\033[K  %.76s' "$step"
    elif [[ "$step" == unpacking* || "$step" == downloading*[0-9][0-9].[0-9]\ MB* ]]; then
        printf '  %s\n' "$step"
    fi
done
[ ! -t 1 ] || printf '\r\033[K'
