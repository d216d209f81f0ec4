#!/usr/bin/env bash
# Fuzzes the readers of foreign bytes:  tests/fuzz/run.sh SECONDS [TARGET...]
# Builds the preset `fuzz` (clang, libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer), runs
# every target (or those named) for SECONDS from its seeds and what earlier runs found worth keeping
# (build/fuzz/corpus), and stops at the first finding with the command that repeats it.
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
for target in "${targets[@]}"; do
  mkdir -p "build/fuzz/corpus/$target"
  echo "fuzz: $target, $seconds s"
  if ! "build/fuzz/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
       -dict=tests/fuzz/json.dict -artifact_prefix="build/fuzz/findings/$target-" -print_final_stats=1 \
       "build/fuzz/corpus/$target" "tests/fuzz/seeds/$target" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    finding=$(ls -t build/fuzz/findings/"$target"-* 2>/dev/null | head -n 1)
    echo "fuzz: $target broke; repeat: build/fuzz/tests/fuzz/fuzz_$target $finding" >&2
    exit 1
  fi
  grep -E 'number_of_executed_units|new_units_added|peak_rss_mb' "$log" | sed 's/^stat::/  /'
done
echo "fuzz: no findings"
