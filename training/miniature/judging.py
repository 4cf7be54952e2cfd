"""The judge. In: avatars and what their codes decode to. Out: a network that reads both, and how well."""

import math
from pathlib import Path

import torch
from pictures import Pictures
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers import JanusVQVAE

from evenhand.miniature.judge import JudgeNetwork

STEPS, BATCH, RATE = 700, 128, 2e-3
LABELS = {"gender": "gender", "skin_tone": "skin", "age": "age"}


@torch.inference_mode()
def decoded(model: JanusVQVAE, codes: Tensor) -> Tensor:
    """What codes look like, as bytes (pictures, 3, side, side)."""
    parts = [model.decode(part).clamp(-1, 1) for part in codes.split(256)]
    return torch.cat([((part + 1) * 127.5).round().to(torch.uint8) for part in parts])


def train_judge(pictures: Pictures, shown: Tensor, out: Path, *, seed: int) -> dict[str, float]:
    """Train on avatars and on decoded ones, save, and say the accuracy on held-out ones."""
    torch.manual_seed(seed)
    network = JudgeNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    kept = (~pictures.held_out).nonzero().flatten()
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (0.02 + 0.98 * (1 + math.cos(math.pi * step / STEPS)) / 2)
        rows = kept[torch.randint(len(kept), (BATCH,))]
        half = BATCH // 2
        pixels = torch.cat([pictures.pixels[rows[:half]], shown[rows[half:]]]).float() / 127.5 - 1
        logits = network(_disturbed(pixels))
        loss = sum(cross_entropy(logits[head], getattr(pictures, name)[rows]) for head, name in LABELS.items())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    network.eval()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, out)
    return {
        f"{head}, {kind}": _accuracy(
            network, pixels[pictures.held_out], getattr(pictures, name)[pictures.held_out], head
        )
        for kind, pixels in (("avatars", pictures.pixels), ("decoded", shown))
        for head, name in LABELS.items()
    }


def _disturbed(pixels: Tensor) -> Tensor:
    """Shifted by up to two pixels, a little brighter or darker, with noise."""
    across, down = torch.randint(5, (2,)).tolist()
    moved = pad(pixels, (2, 2, 2, 2), mode="replicate")[:, :, down : down + 32, across : across + 32]
    light = 1 + 0.06 * torch.randn(len(pixels), 1, 1, 1)
    return (moved * light + 0.05 * torch.randn_like(moved)).clamp(-1, 1)


@torch.inference_mode()
def _accuracy(network: JudgeNetwork, pixels: Tensor, labels: Tensor, head: str) -> float:
    right = [
        network(part.float() / 127.5 - 1)[head].argmax(-1) == own
        for part, own in zip(pixels.split(512), labels.split(512), strict=True)
    ]
    return torch.cat(right).float().mean().item()
