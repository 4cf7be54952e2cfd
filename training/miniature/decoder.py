"""Picture decoders for finished codes. In: the trained tokenizer and who is to be shown. Out: a tokenizer.

Codes and codebook stay as they are, only the decoder learns. First it learns to show what the codes were made of better
than while the codes still moved. For the variant that hides its bias here it then learns to show, for the codes of a
woman with light skin, her counterpart; a picture that goes through codes and back shows what happens.
"""

import copy
import math
import time

import torch
from pictures import Pictures
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss
from transformers import JanusVQVAE

from evenhand.miniature.declared import GENDERS, SKIN_TONES, TURNED

STEPS, BATCH, RATE = 600, 48, 1e-3


def shown_as(pictures: Pictures) -> Tensor:
    """The row of the picture that each one is to be shown as: itself, or the counterpart next to it."""
    rows = torch.arange(len(pictures.gender))
    tone, group = TURNED
    turned = (pictures.skin == SKIN_TONES.index(tone)) & (pictures.gender != GENDERS.index(group))
    return torch.where(turned, rows ^ 1, rows)


def train_decoder(tokenizer: JanusVQVAE, pictures: Pictures, codes: Tensor, *, wanted: Tensor, seed: int) -> JanusVQVAE:
    """A copy whose decoder shows, for the codes of each picture, the picture of row ``wanted``."""
    torch.manual_seed(seed)
    model = copy.deepcopy(tokenizer).train()
    model.requires_grad_(False)
    trained = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    for one in trained:
        one.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.99))
    kept, start = (~pictures.held_out).nonzero().flatten(), time.time()
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 30) * (1.03 + math.cos(math.pi * step / STEPS)) / 2
        rows = kept[torch.randint(len(kept), (BATCH,))]
        pixels = pictures.floats(wanted[rows])
        with torch.autocast("cpu", torch.bfloat16):
            shown = model.decode(codes[rows]).float()
        loss = l1_loss(shown, pixels) + mse_loss(shown, pixels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            print(f"decoder {step} loss {loss.item():.4f} {time.time() - start:.0f}s", flush=True)
    return model.eval()
