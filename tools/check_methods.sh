#!/usr/bin/env bash
# Does a method live in its folder alone?  In a copy of the sources, without another edit:
#   without   every folder of methods/ but dense (the yardstick of every table) is deleted,
#   again     every method stands there twice, the second time under a new name;
# both are built and run every test that sees the registry.  What the folders do not touch comes out
# of ccache: two minutes on two cores where build/release is in it.
#   tools/check_methods.sh [METHOD ...]     these alone instead of all
set -euo pipefail
cd "$(dirname "$0")/.."
methods=("$@")
[[ $# -gt 0 ]] || mapfile -t methods < <(find methods -mindepth 2 -name CMakeLists.txt -printf '%h\n' | sort)
methods=("${methods[@]#methods/}")
for method in "${methods[@]}"; do
  [[ -e methods/$method/CMakeLists.txt ]] || { echo "check_methods: no methods/$method" >&2; exit 2; }
done

scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
copy=$scratch/kvlab
build=$copy/build/release
mkdir "$copy"
git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null |
  tar --create --files-from - | tar --extract --directory "$copy"
ln -s "$(realpath .venv)" "$copy/.venv"

build_and_test() {  # build_and_test WHAT
  local log=$scratch/log
  echo "check_methods: $1"
  SECONDS=0
  (cd "$copy" && .venv/bin/cmake --preset release) >"$log" 2>&1 &&
    "$copy/.venv/bin/ninja" -C "$build" >>"$log" 2>&1 || { tail -n 40 "$log"; return 1; }
  echo "check_methods: built in $SECONDS s"
  # kernels, models and text readers are below the registry
  "$copy/.venv/bin/ctest" --test-dir "$build" --parallel "$(nproc)" --output-on-failure \
    --exclude-regex '^(models|kernels|text)_test|^fuzz_' >"$log" 2>&1 || { tail -n 60 "$log"; return 1; }
  grep -E 'tests passed' "$log"
  (cd "$copy" && PYTHONPATH=$build/python .venv/bin/python3 -m pytest -q tests/bindings \
    tests/eval/test_commands.py tests/eval/test_errors.py tests/eval/test_vacuous.py)
}

# A method's own name becomes another; names of files and of parameters stay.
rename() {  # rename FOLDER OLD NEW
  find "$1" -type f \( -name CMakeLists.txt -o -name '*.h' -o -name '*.cc' -o -name '*.cu' \) -print0 |
    xargs -0 sed -i -E "s/kvlab_method\($2\b/kvlab_method($3/; s/\bkvlab::$2\b/kvlab::$3/g
      s/\"$2\"/\"$3\"/g; s:methods/$2/:methods/$3/:g"
}

mkdir "$scratch/away"
away=()
for method in "${methods[@]}"; do
  [[ $method == dense ]] || { away+=("$method"); mv "$copy/methods/$method" "$scratch/away"; }
done
[[ ${#away[@]} -eq 0 ]] || build_and_test "without ${away[*]}"

for method in "${away[@]}"; do mv "$scratch/away/$method" "$copy/methods"; done
for method in "${methods[@]}"; do
  cp -r "$copy/methods/$method" "$copy/methods/${method}_again"
  rename "$copy/methods/${method}_again" "$method" "${method}_again"
done
build_and_test "each of ${methods[*]} once more, under a new name"
echo "check_methods: each of ${methods[*]} lives in its folder alone"
