#!/usr/bin/env bash
# Every check that needs a GPU, in one command: the device tests, the same under compute-sanitizer
# where it is installed, and the benchmarks.  Writes a dated report with the card's name.
#
#   tools/gpu_check.sh [--build DIR] [--out DIR]
#
#   --build DIR  use the programs in DIR as they are (built elsewhere and carried here); without it
#                build/release, made up to date by ./run --setup test
#   --out DIR    where the report goes; default eval/results/gpu
#
# Carried programs find LibTorch and CUDA in the torch package of `python3` here, of the version that
# tools/requirements pins.  Exit code: 0 all passed, 1 something failed, 2 wrong arguments, 77 no
# device.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

build='' out=eval/results/gpu
while (($#)); do
  case $1 in
    --build) build=${2:?--build wants a folder}; shift 2 ;;
    --out) out=${2:?--out wants a folder}; shift 2 ;;
    *) sed -n '2,15p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
done

if ! devices=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1) ||
  [[ -z $devices ]]; then
  echo "gpu_check: this machine has no NVIDIA device (nvidia-smi: ${devices%%$'\n'*})." >&2
  echo "gpu_check: nothing was checked; eval/results/gpu says what is outstanding." >&2
  exit 77
fi

if [[ -z $build ]]; then
  ./run --setup test || exit 1
  build=build/release
fi
tests=$build/tests/kernels/kernels_test bench=$build/kernels/cuda_codecs_bench
for program in "$tests" "$bench" "$build/libkvlab_cuda.so"; do
  [[ -e $program ]] || { echo "gpu_check: there is no $program" >&2; exit 1; }
done
if ldd "$tests" | grep -q 'not found'; then
  LD_LIBRARY_PATH=$(python3 - "$build" <<'PYTHON'
import pathlib, sys, torch
lib = pathlib.Path(torch.__file__).parent / "lib"
found = sorted(lib.parent.parent.glob("nvidia/*/lib"))
print(":".join(map(str, [pathlib.Path(sys.argv[1]).resolve(), lib, *found])))
PYTHON
  ) || { echo "gpu_check: python3 has no torch to run $tests with" >&2; exit 1; }
  export LD_LIBRARY_PATH
fi

card=$(head -1 <<<"$devices" | cut -d, -f1 | tr '[:upper:] ' '[:lower:]-')
mkdir -p "$out"
report=$out/$(date -u +%Y-%m-%d)-$card.md
failed=0
{
  echo "# $(head -1 <<<"$devices" | cut -d, -f1), $(date -u +%Y-%m-%d)"
  echo
  echo "Commit $(git describe --always --dirty 2>/dev/null || echo unknown); devices (name, driver, memory):"
  echo
  printf '%s\n' "$devices" | sed 's/^/    /'
} >"$report"

# step NAME COMMAND ...: runs it and appends its verdict and the end of its output.
step() {
  local name=$1 log rc verdict
  shift
  log=$(mktemp)
  "$@" >"$log" 2>&1
  rc=$?
  case $rc in
    0) verdict=passed ;;
    77) verdict='FAILED: skipped, though there is a device' failed=1 ;;
    *) verdict="FAILED, exit code $rc" failed=1 ;;
  esac
  echo "$name: $verdict"
  {
    printf '\n## %s: %s\n\n    %s\n\n' "$name" "$verdict" "$*"
    tail -40 "$log" | sed 's/^/    /'
  } >>"$report"
  rm -f "$log"
}

# A test that skips beside others that pass would go unseen.
# shellcheck disable=SC2317
device_tests() {
  local log rc
  log=$("$tests" --gtest_filter='*Cuda*' --gtest_brief=1 2>&1)
  rc=$?
  echo "$log"
  if ((rc == 0)) && grep -q SKIPPED <<<"$log"; then rc=77; fi
  return "$rc"
}

step 'device tests' device_tests
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck synccheck; do
    step "compute-sanitizer $tool" compute-sanitizer --tool $tool --error-exitcode 1 \
      "$tests" --gtest_filter='CudaDevice0.*' --gtest_brief=1
  done
fi
step 'codec benchmark' "$bench"

echo "gpu_check: report in $report"
exit $failed
