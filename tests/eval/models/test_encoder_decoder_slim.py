"""Slim attention of networks with an encoder: no rotation anywhere, so x itself is what is stored,
and all cross layers read one row of each encoder token."""

import json
import subprocess

import pytest
import torch
from agreement import FP32_BOUND
from encoder_decoders import T5, Whisper, Written

pytestmark = [pytest.mark.examples("slim"), pytest.mark.usefixtures("one_thread")]

NETWORKS = {  # with e / D, how much wider keys are than the model
    "t5": (T5(), 1),
    "t5-wide-heads": (T5({"num_heads": 8, "d_kv": 32}), 4),
    "whisper": (Whisper(), 1),
}
LAYERS = 3


@pytest.fixture(scope="module", params=NETWORKS)
def prepared(request, kvlab_command, tmp_path_factory):
    """A network on disk and slim's artifact of it; no text is needed where nothing turns."""
    network, ratio = NETWORKS[request.param]
    folder = tmp_path_factory.mktemp("network")
    written = Written(network, folder, torch.float32)
    arguments = ["--model", folder / "model", "--out", folder / "slim.safetensors", "--json"]
    done = subprocess.run(
        [kvlab_command, "prepare", "slim", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return written, ratio, json.loads(done.stdout)["header"]["layers"]


def test_logits_are_those_of_transformers(prepared, dump_logits):
    written, _, _ = prepared
    fed = {"sequences": written.sequences, "sources": written.sources}
    request = {
        "model": {"path": str(written.folder / "model")},
        "method": {"name": "slim", "artifact": str(written.folder / "slim.safetensors")},
        "runs": [{"name": name, "chunk": n, **fed} for name, n in (("all", 0), ("chunks", 7))],
    }
    got = dump_logits(written.folder, request)
    for i, want in enumerate(written.logits(written.loaded(torch.float32))):
        for run in ("all", "chunks"):
            off = (got[f"{run}.{i}"] - want).abs().max() / want.abs().max()
            assert off <= FP32_BOUND, f"{run}, sequence {i}: {off}"


def test_each_encoder_token_is_stored_once_for_all_layers(prepared):
    """The paper's ratios: 2 e / D of a self layer, 2 e L / D of the cross layers together."""
    _, ratio, layers = prepared
    selves, crosses = layers[0::2], layers[1::2]
    assert [layer["mode"] for layer in layers] == ["input"] * 2 * LAYERS
    assert {layer["share_of_dense"] for layer in selves} == {1 / (2 * ratio)}
    assert {layer["shares_rows_with"] for layer in crosses} == {1}
    assert [layer["share_of_dense"] for layer in crosses] == [1 / (2 * ratio), 0, 0]
    assert all(layer["width"] == layers[0]["width"] for layer in layers)
