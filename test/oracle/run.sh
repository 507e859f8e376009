#!/usr/bin/env bash
# Replays the listed scenarios against bin/ and compares with what real
# Postfix did. Usage: run.sh ORACLE_DIRECTORY [scenario ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$here/../../bin" && pwd)
oracle=$(cd "$1" && pwd)
shift
if [ $# -eq 0 ]; then
	mapfile -t names < <(sed 's/#.*//; /^ *$/d' "$here/scenarios.txt" | awk '{print $1}')
else
	names=("$@")
fi
python=$(command -v python3.11 || command -v python3)
cd /
exec "$python" "$here/run.py" "$oracle" "$bin" "${names[@]}"
