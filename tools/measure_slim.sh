#!/usr/bin/env bash
# Slim attention on models/ref-mha: prepares every mode on the end of models/excerpt.txt, then runs
# configs/slim.json, which judges on its beginning.  What eval/results/slim holds.
#   tools/measure_slim.sh [KVLAB]    the command to measure; ./run without it
set -euo pipefail
cd "$(dirname "$0")/.."
kvlab=${1:-./run}
out=build/slim
mkdir -p $out
tail -c 100000 models/excerpt.txt >$out/calibration.txt

prepare() {  # prepare NAME PARAMS
  $kvlab prepare "{\"name\": \"slim\", \"params\": $2}" --model models/ref-mha \
    --text $out/calibration.txt --out "$out/$1.safetensors" | tee "$out/$1.md"
}
modes=(keys keys_shaped keys_side keys_shaped_side keys_basis keys24)
for mode in "${modes[@]}"; do
  prepare "$mode" "{\"mode\": \"$mode\"}"
done
prepare strict '{"target": "strict"}'
$kvlab eval configs/slim.json
results=eval/results/slim
mkdir -p $results
for name in "${modes[@]}" strict; do
  printf '## %s\n\n%s\n\n' "$name" "$(grep -v '^wrote ' "$out/$name.md")"
done >$results/layers.md
grep -E '"metric":"(ppl_disjoint1024|nll_disjoint1024|delta_nll|ppl_ratio|kl|string_match_all|cr|payload_bytes|meta_bytes|dense_bytes|prefill_tok_s|decode_tok_s)"' \
  runs/slim/results.jsonl >$results/results.jsonl
cp runs/slim/summary.md $results/
