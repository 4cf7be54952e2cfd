"""Makes the shipped weights of the face finder. In: the wheel of facenet-pytorch 2.6.0. Out: safetensors.

    pip download --no-deps facenet-pytorch==2.6.0
    python training/face_finder.py facenet_pytorch-2.6.0-py3-none-any.whl

Run once. The wheel's three ``.pt`` files are read with ``weights_only=True``, so that nothing in them is executed,
renamed, and written as 32-bit safetensors; no number is changed.
"""

import argparse
import io
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from evenhand.classify.face_finder import WEIGHTS

# Where each layer of the wheel's networks goes: network -> layer -> layer.
_LAYERS = {
    "p": {"conv1": "body.0", "prelu1": "body.1", "conv2": "body.3", "prelu2": "body.4", "conv3": "body.5",
          "prelu3": "body.6", "conv4_1": "heads.0", "conv4_2": "heads.1"},
    "r": {"conv1": "body.0", "prelu1": "body.1", "conv2": "body.3", "prelu2": "body.4", "conv3": "body.6",
          "prelu3": "body.7", "dense4": "dense.0", "prelu4": "dense.1", "dense5_1": "heads.0", "dense5_2": "heads.1"},
    "o": {"conv1": "body.0", "prelu1": "body.1", "conv2": "body.3", "prelu2": "body.4", "conv3": "body.6",
          "prelu3": "body.7", "conv4": "body.9", "prelu4": "body.10", "dense5": "dense.0", "prelu5": "dense.1",
          "dense6_1": "heads.0", "dense6_2": "heads.1", "dense6_3": "heads.2"},
}  # fmt: skip


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description="Make the face finder's weights.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    tensors = {}
    with zipfile.ZipFile(given.wheel) as wheel:
        for net, layers in _LAYERS.items():
            packed = io.BytesIO(wheel.read(f"facenet_pytorch/data/{net}net.pt"))
            for name, value in torch.load(packed, weights_only=True).items():
                layer, kind = name.split(".")
                tensors[f"{net}.{layers[layer]}.{kind}"] = value.float().contiguous()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, given.out, metadata={"source": "facenet-pytorch 2.6.0", "licence": "MIT"})
    print(f"{len(tensors)} tensors, {given.out.stat().st_size} bytes: {given.out}")


if __name__ == "__main__":
    main()
