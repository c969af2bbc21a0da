#!/usr/bin/env bash
# Resolves pyproject.toml afresh in an environment of its own and writes what came out as requirements.lock.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$PYTHON" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q -e ".[all]"
{
  head -n 1 requirements.lock
  "$folder/venv/bin/pip" freeze --exclude-editable | sed 's/+cpu$//'  # a lock holds for any index torch comes from
} >"$folder/lock"
mv "$folder/lock" requirements.lock
