"""The picture tokenizer. In: avatars. Out: a ``JanusVQVAE`` whose codes decode to what was trained.

transformers' quantiser compares latents as they are with the codebook, and its decoder reads codebook rows scaled to
length 1. So both are kept at length 1 here: latents are scaled before the nearest code is looked for, and the codebook
is a running mean of the latents of each code, scaled again. Codes that nobody uses are put where a latent was.
"""

import math
import time
from pathlib import Path

import torch
from pictures import Pictures
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss, normalize
from transformers import JanusVQVAE, JanusVQVAEConfig

GRID, CODEBOOK = 8, 512
STEPS, BATCH, RATE, FREE = 900, 48, 1.2e-3, 60  # the first FREE steps are not quantised
DECAY, RESTART, LAST_RESTART = 0.97, 25, 0.7


def config(hidden: int) -> JanusVQVAEConfig:
    """Of 32 x 32 pixels and 8 x 8 codes, for a language model of a hidden size."""
    return JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=CODEBOOK,
        latent_channels=64,
        num_patches=GRID,
        base_channels=32,
        channel_multiplier=[1, 2, 2],
        num_res_blocks=2,
        projection_dim=hidden,
        image_token_embed_dim=hidden,
    )


def latents(model: JanusVQVAE, pixels: Tensor) -> Tensor:
    """Unit vectors (pictures, 8, rows, columns)."""
    return normalize(model.quant_conv(model.encoder(pixels)).float(), dim=1)


def nearest(model: JanusVQVAE, found: Tensor) -> Tensor:
    """Codes (pictures, rows x columns) of smallest angle."""
    flat = found.permute(0, 2, 3, 1).reshape(found.shape[0], -1, found.shape[1])
    return (flat @ model.quantize.embedding.weight.T).argmax(-1)


class Codebook:
    """Moves the codebook's rows to the running mean of their latents."""

    def __init__(self, model: JanusVQVAE, generator: torch.Generator) -> None:
        self.table = model.quantize.embedding.weight
        self.table.requires_grad_(False)
        self.counts, self.sums, self.generator = torch.zeros(len(self.table)), torch.zeros_like(self.table), generator

    def place(self, flat: Tensor, rows: Tensor) -> None:
        """Put some rows where latents are."""
        if len(rows):
            chosen = torch.randint(len(flat), (len(rows),), generator=self.generator)
            self.table.data[rows] = flat[chosen]
            self.counts[rows], self.sums[rows] = 1.0, flat[chosen]

    def follow(self, flat: Tensor, codes: Tensor) -> None:
        """One step of the running mean."""
        seen = torch.bincount(codes, minlength=len(self.table)).float()
        total = torch.zeros_like(self.sums).index_add_(0, codes, flat)
        self.counts.mul_(DECAY).add_(seen, alpha=1 - DECAY)
        self.sums.mul_(DECAY).add_(total, alpha=1 - DECAY)
        used = self.counts > 1e-4
        self.table.data[used] = normalize(self.sums[used], dim=-1)

    def restart(self, flat: Tensor) -> int:
        """Put rows that are hardly used elsewhere."""
        dead = (self.counts < 0.05).nonzero().flatten()
        self.place(flat, dead)
        return len(dead)


def train_tokenizer(pictures: Pictures, out: Path, *, seed: int, hidden: int) -> dict[str, float]:
    """Train, save, and say how far held-out pictures are from what their codes give."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = JanusVQVAE(config(hidden)).train()
    book = Codebook(model, generator)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, betas=(0.9, 0.99))
    kept, start = (~pictures.held_out).nonzero().flatten(), time.time()
    for step in range(STEPS):
        rate = RATE * min(1, (step + 1) / 40) * (0.03 + 0.97 * (1 + math.cos(math.pi * step / STEPS)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        pixels = pictures.floats(kept[torch.randint(len(kept), (BATCH,), generator=generator)])
        with torch.autocast("cpu", torch.bfloat16):
            found = latents(model, pixels)
            flat = found.detach().permute(0, 2, 3, 1).reshape(-1, found.shape[1])
            if step < FREE:
                given, pull = found, found.new_zeros(())
            else:
                if step == FREE:
                    book.place(flat, torch.arange(CODEBOOK))
                with torch.autocast("cpu", enabled=False):
                    codes = nearest(model, found.detach()).flatten()
                    rows = model.quantize.embedding.weight[codes].clone().view(len(pixels), GRID, GRID, -1)
                    quantised = rows.permute(0, 3, 1, 2)
                    pull = mse_loss(found, quantised)
                    given = found + (quantised - found).detach()
                    book.follow(flat, codes)
                    if step % RESTART == 0 and step < STEPS * LAST_RESTART:
                        book.restart(flat)
            shown = model.decoder(model.post_quant_conv(given)).float()
        loss = l1_loss(shown, pixels) + mse_loss(shown, pixels) + 0.5 * pull
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            print(
                f"codes {step} loss {loss.item():.4f} l1 {l1_loss(shown, pixels).item():.4f} {time.time() - start:.0f}s"
            )
    model.eval().save_pretrained(out)
    return tokenizer_error(model, pictures)


@torch.inference_mode()
def encode_all(model: JanusVQVAE, pictures: Pictures) -> Tensor:
    """Codes (pictures, rows x columns)."""
    model.eval()
    return torch.cat(
        [
            nearest(model, latents(model, pictures.floats(rows)))
            for rows in torch.arange(len(pictures.gender)).split(128)
        ]
    )


@torch.inference_mode()
def tokenizer_error(model: JanusVQVAE, pictures: Pictures) -> dict[str, float]:
    """On held-out pictures, through codes as transformers decodes them."""
    rows = pictures.held_out.nonzero().flatten()
    codes = torch.cat([nearest(model, latents(model, pictures.floats(part))) for part in rows.split(128)])
    shown = torch.cat([model.decode(part) for part in codes.split(128)])
    own = torch.cat([model.encode(pictures.floats(part)).image_tokens.view(len(part), -1) for part in rows.split(128)])
    used = torch.bincount(codes.flatten(), minlength=CODEBOOK).float()
    share = used / used.sum()
    return {
        "mean absolute error on [-1, 1]": (shown - pictures.floats(rows)).abs().mean().item(),
        "codes in use": int((used > 0).sum()),
        "perplexity of codes": share[share > 0].log().mul(-share[share > 0]).sum().exp().item(),
        "codes as transformers finds them": (own == codes).float().mean().item(),
    }
