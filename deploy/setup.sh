#!/usr/bin/env bash
# Makes .venv from the lock file, with one line of progress. Ends by writing the file named by $1.
set -euo pipefail
ready=$1 log=.venv/setup.log
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

"$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || {
  echo "Tandem needs Python 3.11 to 3.14, and '$PYTHON' is $("$PYTHON" --version 2>&1 || true): make setup PYTHON=python3.12" >&2
  exit 1
}
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || {
  echo "'$PYTHON -m venv' failed: install the venv module of your Python (Debian: apt install python3-venv)" >&2
  exit 1
}

install() {
  if [ -n "${TORCH_INDEX:-}" ]; then
    .venv/bin/pip install -q -c requirements.lock --no-deps --index-url "$TORCH_INDEX" torch
  fi
  .venv/bin/pip install -q -c requirements.lock -e ".[all]"
}

install >"$log" 2>&1 &
work=$!
trap 'kill $work 2>/dev/null; exit 130' INT TERM
while kill -0 $work 2>/dev/null; do
  if [ -t 1 ]; then
    printf '\rsetting up .venv: %3d s, %4s MB of about 2500' "$SECONDS" "$(du -sm .venv 2>/dev/null | cut -f1)"
    sleep 1
  else
    sleep 0.2
  fi
done
if ! wait $work; then
  printf '\nsetting up .venv failed; the installer said:\n' >&2
  tail -n 20 "$log" >&2
  exit 1
fi
printf '\rset up .venv in %d s                              \n' "$SECONDS"
touch "$ready"
