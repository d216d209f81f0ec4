#!/usr/bin/env bash
# Does a method live in its folder alone?  In a copy of the sources: deletes the folder, builds, runs
# every test; then puts it back beside a copy under a new name, builds, runs every test.  Nothing
# else is edited.
#   tools/check_methods.sh [METHOD]        default: window
set -euo pipefail
cd "$(dirname "$0")/.."
method=${1:-window}
[[ -d methods/$method ]] || { echo "check_methods: there is no methods/$method" >&2; exit 2; }

scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
copy=$scratch/kvlab
mkdir "$copy"
git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null |
  tar --create --files-from - | tar --extract --directory "$copy"
ln -s "$(realpath .venv)" "$copy/.venv"

build_and_test() {  # build_and_test WHAT
  local build=$copy/build/release log=$scratch/log
  echo "check_methods: $1"
  (cd "$copy" && .venv/bin/cmake --preset release) >"$log" 2>&1 &&
    "$copy/.venv/bin/ninja" -C "$build" >>"$log" 2>&1 || { tail -n 30 "$log"; return 1; }
  "$copy/.venv/bin/ctest" --test-dir "$build" --parallel "$(nproc)" --output-on-failure --progress |
    tail -n 25
  (cd "$copy" && PYTHONPATH=$build/python .venv/bin/python3 -m pytest -q)
  "$build/kvlab" info 2>/dev/null || true
}

# Its own name becomes another; names of files and of parameters stay.
rename() {  # rename FOLDER OLD NEW
  find "$1" -type f \( -name CMakeLists.txt -o -name '*.h' -o -name '*.cc' -o -name '*.cu' \) -print0 |
    xargs -0 sed -i -E "s/kvlab_method\($2\b/kvlab_method($3/; s/\bkvlab::$2\b/kvlab::$3/g
      s/\"$2\"/\"$3\"/g; s:methods/$2/:methods/$3/:g"
}

mv "$copy/methods/$method" "$scratch/$method"
build_and_test "without methods/$method"

cp -r "$scratch/$method" "$copy/methods/$method"
mv "$scratch/$method" "$copy/methods/${method}_again"
rename "$copy/methods/${method}_again" "$method" "${method}_again"
build_and_test "with methods/${method}_again beside methods/$method"
echo "check_methods: $method lives in its folder alone"
