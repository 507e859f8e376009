#!/usr/bin/env bash
# Replays the listed scenarios against bin/ and compares with what real
# Postfix did. Usage: run.sh ORACLE_DIRECTORY [scenario ...]
#
# Scenarios have limits in real time; one that fails on a busy machine is
# played a second time, alone, and only then counts as failed.
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
output=$(mktemp)
trap 'rm -f "$output"' EXIT
cd /
if "$python" "$here/run.py" "$oracle" "$bin" "${names[@]}" | tee "$output"; then
	exit 0
fi
mapfile -t again < <(awk '/^FAIL/ {print $2}' "$output")
if [ ${#again[@]} -eq 0 ]; then
	exit 1
fi
echo "once more, alone: ${again[*]}"
ORACLE_JOBS=1 "$python" "$here/run.py" "$oracle" "$bin" "${again[@]}"
