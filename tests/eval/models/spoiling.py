"""What tests do to a model directory that `save_pretrained` wrote."""

import json

from safetensors.torch import load_file, save_file


def copied(written, folder):
    """A copy of a written model, to spoil."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((written / name).read_bytes())
    return folder


def set_config(model, **changes):
    """Keys of config.json; "absent": without it."""
    path = model / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


def set_tensor(model, name, tensor):
    """None: without it."""
    path = model / "model.safetensors"
    tensors = load_file(path)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, path, metadata={"format": "pt"})
