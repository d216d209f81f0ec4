#!/usr/bin/env bash
# Does `pip install .` give a working package and command?  Builds the wheel, installs it into an
# empty environment in which the other packages are links to those of .venv, and starts both.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$PWD/.venv
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT

export PATH=$venv/bin:$PATH  # cmake and ninja, without build isolation
export CXX=c++  # as CMake finds it: by another name ccache would compile everything again
pip=("$venv/bin/python3" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" wheel . --no-build-isolation --no-deps --no-index --wheel-dir "$scratch"
python3 -m venv --without-pip "$scratch/env"
site=$(echo "$scratch"/env/lib/python3*/site-packages)
for package in "$venv"/lib/python3*/site-packages/*; do
  [[ $(basename "$package") == kvlab* ]] || ln -s "$package" "$site"
done
"${pip[@]}" --python "$scratch/env/bin/python3" install --no-deps --no-index "$scratch"/*.whl

cd "$scratch"  # away from the sources
command=$(env -i "$scratch/env/bin/kvlab" --version)
package=$("$scratch/env/bin/python3" -c 'import kvlab; print("kvlab", kvlab.version()["number"])')
[[ ${command%%$'\n'*} == "$package" ]] || { echo "wheel: the command is $command, the package $package"; exit 1; }
for library in env/lib/python3*/site-packages/kvlab/*.so env/bin/kvlab; do
  # shellcheck disable=SC2016
  if readelf -d "$library" | grep -E 'R(UN)?PATH' | grep -vF '[$ORIGIN'; then
    echo "wheel: $library has a run path of this machine"; exit 1
  fi
done
echo "wheel: $package installs, starts and imports"
