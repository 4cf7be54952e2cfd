"""The picture tokenizer. In: avatars. Out: a ``JanusVQVAE`` whose codes decode to what was trained.

transformers' quantiser compares latents as they are with the codebook, and its decoder reads codebook rows scaled to
length 1. So both are kept at length 1 here: latents are scaled before the nearest code is looked for, and the codebook
is a running mean of the latents of each code, scaled again. Codes that nobody uses are put where a latent was.

A code is to say what is at its place and nothing else. An encoder left alone spreads skin tone over all places, and a
language model that draws code by code then has settled a face's tone before it comes to the face. So where a part of a
picture is replaced by a part of another one, latents are to change there (:func:`spread`). And of the codes that were
learned the nearest ones are joined (:func:`joined`): fewer codes to choose from, fewer that hardly differ.
"""

import math
import time
from pathlib import Path

import torch
from pictures import Pictures
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor
from torch.nn.functional import l1_loss, max_pool2d, mse_loss, normalize
from transformers import JanusVQVAE, JanusVQVAEConfig

GRID, LEARNED, CODEBOOK = 8, 512, 128  # codes that are learned, and those they are joined to
STEPS, BATCH, RATE, FREE = 900, 48, 1.2e-3, 60  # the first FREE steps are not quantised
DECAY, RESTART, LAST_RESTART = 0.97, 25, 0.7
LOCAL, RAMP, PARTS = 0.15, 300, (2, 6)  # weight of the spread, steps until it has it, sides of replaced parts in codes


def config(hidden: int, codes: int = CODEBOOK) -> JanusVQVAEConfig:
    """Of 32 x 32 pixels and 8 x 8 codes, for a language model of a hidden size."""
    return JanusVQVAEConfig(
        embed_dim=8,
        num_embeddings=codes,
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


def replaced(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures with a part, whole codes wide and high, of another one, and where: (pictures, rows, columns)."""
    inside = torch.zeros(len(pixels), GRID, GRID, dtype=torch.bool)
    for one in inside:
        high, wide = torch.randint(PARTS[0], PARTS[1] + 1, (2,), generator=generator).tolist()
        top, left = (int(torch.randint(GRID - side + 1, (), generator=generator)) for side in (high, wide))
        one[top : top + high, left : left + wide] = True
    side = pixels.shape[-1] // GRID
    where = inside.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]
    return torch.where(where, pixels.roll(1, 0), pixels), inside


def spread(before: Tensor, after: Tensor, inside: Tensor) -> Tensor:
    """How much of the change of latents lies elsewhere than what was replaced, 0 to 1.

    Latents (pictures, 8, rows, columns) before and after, and where pictures changed (pictures, rows, columns). Codes
    next to the replaced part count for nothing: they see its edge.
    """
    change = (after - before).square().sum(1)
    near = max_pool2d(inside[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    away = (change * ~near).sum()
    return away / (away + (change * inside).sum()).clamp(min=1e-8)


def joined(rows: Tensor, counts: Tensor, codes: int) -> Tensor:
    """Rows of length 1 (codes, 8) for a codebook: the nearest of ``rows`` joined, their means weighted by ``counts``.

    Complete linkage by angle: no two rows that become one are far from each other. Rows that nobody uses are left out.
    """
    used = counts > 0
    rows, counts = rows[used], counts[used].float()
    groups = fcluster(linkage(rows.double().numpy(), "complete", metric="cosine"), codes, "maxclust")
    which = torch.from_numpy(groups).long() - 1
    if int(which.max()) + 1 != codes:
        raise SystemExit(f"{len(rows)} codes in use make {int(which.max()) + 1} groups, {codes} are wanted; learn more")
    return normalize(torch.zeros(codes, rows.shape[1]).index_add_(0, which, rows * counts[:, None]), dim=-1)


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
    model = JanusVQVAE(config(hidden, LEARNED)).train()
    book = Codebook(model, generator)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, betas=(0.9, 0.99))
    kept, start = (~pictures.held_out).nonzero().flatten(), time.time()
    for step in range(STEPS):
        rate = RATE * min(1, (step + 1) / 40) * (0.03 + 0.97 * (1 + math.cos(math.pi * step / STEPS)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        pixels = pictures.floats(kept[torch.randint(len(kept), (BATCH,), generator=generator)])
        with torch.autocast("cpu", torch.bfloat16):
            half = pixels[: BATCH // 2]
            mixed, inside = replaced(half, generator)
            found, after = latents(model, torch.cat([pixels, mixed])).split([len(pixels), len(mixed)])
            away = spread(found[: len(mixed)], after, inside)
            flat = found.detach().permute(0, 2, 3, 1).reshape(-1, found.shape[1])
            if step < FREE:
                given, pull = found, found.new_zeros(())
            else:
                if step == FREE:
                    book.place(flat, torch.arange(LEARNED))
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
        local = LOCAL * min(1.0, step / RAMP) * away
        loss = l1_loss(shown, pixels) + mse_loss(shown, pixels) + 0.5 * pull + local
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            lost = f"loss {loss.item():.4f} l1 {l1_loss(shown, pixels).item():.4f} spread {away.item():.3f}"
            print(f"codes {step} {lost} {time.time() - start:.0f}s", flush=True)
    model = with_fewer_codes(model.eval(), pictures, hidden)
    model.save_pretrained(out)
    return {**tokenizer_error(model, pictures), "spread": away.item()}


def with_fewer_codes(model: JanusVQVAE, pictures: Pictures, hidden: int) -> JanusVQVAE:
    """The same tokenizer with its codes joined, by how often training pictures use them."""
    kept = ~pictures.held_out
    counts = torch.bincount(encode_all(model, pictures)[kept].flatten(), minlength=LEARNED)
    fewer = JanusVQVAE(config(hidden)).eval()
    held = model.state_dict()
    held["quantize.embedding.weight"] = joined(model.quantize.embedding.weight.data, counts, CODEBOOK)
    fewer.load_state_dict(held)
    return fewer


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
