#!/usr/bin/env bash
# The lines of eval/results/cpu/README.md: speed of attention on this machine, beside its roofline and
# LibTorch; heads of 128 where nothing else is said.  Needs a quiet machine and 3 GiB; a minute on two cores.
#   tools/measure_attention.sh [FILE]      one JSON line per command; default: standard output
set -euo pipefail
cd "$(dirname "$0")/.."
kvlab=${KVLAB:-.venv/bin/kvlab}
to=${1:-/dev/stdout}

lines=(
  "--codec bfloat16 --heads 32 --kv-heads 32 --tokens 32768 --repeats 9"
  "--codec bfloat16 --heads 32 --kv-heads 8 --tokens 131072 --repeats 5"
  "--codec {\"name\":\"int8\",\"params\":{\"group\":0}} --heads 32 --kv-heads 32 --tokens 32768 --repeats 15 --no-torch"
  "--codec int8 --heads 32 --kv-heads 32 --tokens 32768 --repeats 15 --no-torch"
  "--codec int4 --heads 32 --kv-heads 32 --tokens 32768 --repeats 15 --no-torch"
  "--codec int2 --heads 32 --kv-heads 32 --tokens 32768 --repeats 15 --no-torch"
  "--codec int8 --heads 32 --kv-heads 8 --tokens 131072 --repeats 9 --no-torch"
  "--codec int4 --heads 32 --kv-heads 8 --tokens 131072 --repeats 9 --no-torch"
  "--codec bfloat16 --heads 32 --kv-heads 32 --tokens 2048 --queries 2048 --repeats 7 --no-dense"
  "--codec slim --heads 32 --kv-heads 32 --tokens 32768 --repeats 15"
  "--codec slim --heads 6 --kv-heads 6 --head-dim 64 --tokens 262144 --repeats 15"
)
for line in "${lines[@]}"; do
  read -ra words <<<"bench attention --threads 2 $line"
  "$kvlab" "${words[@]}" --json | .venv/bin/python3 -c '
import json, sys
print(json.dumps({"command": " ".join(["kvlab", *sys.argv[1:]]), **json.load(sys.stdin)}))' "${words[@]}"
done >"$to"
