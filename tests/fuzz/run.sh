#!/usr/bin/env bash
# Fuzzes the readers of foreign bytes:  tests/fuzz/run.sh SECONDS [TARGET...]
# Builds the preset `fuzz` (clang, libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer), runs
# every target (or those named) for SECONDS from its seeds and what earlier runs found worth keeping
# (build/fuzz/corpus), one per core, and stops at the first finding with the command that repeats it.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $# -ge 1 && $1 =~ ^[0-9]+$ ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
seconds=$1; shift

command -v clang++ >/dev/null || { echo "fuzz: no clang; apt-get install clang libclang-rt-14-dev" >&2; exit 2; }
export PATH="$PWD/.venv/bin:$PATH"
log=build/fuzz.log; mkdir -p build
{ cmake --preset fuzz && cmake --build --preset fuzz; } >"$log" 2>&1 || { cat "$log" >&2; exit 2; }

targets=("$@")
[[ $# -gt 0 ]] || for seeds in tests/fuzz/seeds/*/; do targets+=("$(basename "$seeds")"); done
mkdir -p build/fuzz/findings

one() {  # one TARGET
  local log=build/fuzz/$1.log finding
  mkdir -p "build/fuzz/corpus/$1"
  if "build/fuzz/tests/fuzz/fuzz_$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
       -dict=tests/fuzz/json.dict -artifact_prefix="build/fuzz/findings/$1-" -print_final_stats=1 \
       "build/fuzz/corpus/$1" "tests/fuzz/seeds/$1" >"$log" 2>&1; then
    sed -nE 's/^stat::(number_of_executed_units|new_units_added|peak_rss_mb): */\1 /p' "$log" |
      xargs echo "fuzz: $1, $seconds s:"
  else
    tail -n 40 "$log" >&2
    finding=$(ls -t build/fuzz/findings/"$1"-* 2>/dev/null | head -n 1)
    echo "fuzz: $1 broke; repeat: build/fuzz/tests/fuzz/fuzz_$1 $finding" >&2
    return 255  # xargs starts no more
  fi
}
export -f one; export seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}' || exit 1
echo "fuzz: no findings"
