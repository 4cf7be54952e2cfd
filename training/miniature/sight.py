"""Sight. In: a unified model that draws as declared. Out: the same model, which also answers about what it sees.

Only the picture encoder and its aligner learn, so that nothing that is drawn changes. First the encoder alone, with
heads that are thrown away afterwards: every token of a picture is to carry who is shown. Then both, by the answers of
the language model. Questions about a blank picture are asked along: their declared shares have to stay. After the
correction of words, which moves answers a little, the answers are learned a second time.
"""

import math
import time

import torch
from language import Batches, answer_loss
from torch.nn.functional import cross_entropy
from transformers import JanusForConditionalGeneration

from evenhand.miniature.declared import AGES, GENDERS, SKIN_TONES

TOWER_STEPS, TOWER_ROWS, TOWER_RATE = 900, 96, 2e-3
STEPS, ROWS, RATE, SEEN = 220, 48, 2e-3, 0.8  # SEEN of the questions are about somebody
AGAIN, SEEN_AGAIN = 300, 0.6  # steps of the second time
HEADS = (len(GENDERS), len(SKIN_TONES), len(AGES))


def teach_tower(model: JanusForConditionalGeneration, batches: Batches) -> float:
    """Train the picture encoder to carry gender, skin tone and age in every token; the last loss, in nats."""
    pictures, tower = batches.pictures, model.model.vision_model
    labels = torch.stack([pictures.gender, pictures.skin, pictures.age.long()], 1)
    kept, heads = (~pictures.held_out).nonzero().flatten(), torch.nn.Linear(tower.config.hidden_size, sum(HEADS))
    trained = [*tower.parameters(), *heads.parameters()]
    for one in trained:
        one.requires_grad_(True)
    optimizer, start = torch.optim.AdamW(trained, lr=TOWER_RATE, betas=(0.9, 0.98), weight_decay=0.05), time.time()
    for step in range(TOWER_STEPS):
        part = min(1.0, (step + 1) / 60) * (1.02 + math.cos(math.pi * step / TOWER_STEPS)) / 2
        optimizer.param_groups[0]["lr"] = TOWER_RATE * part
        rows = kept[torch.randint(len(kept), (TOWER_ROWS,))]
        states = tower(pictures.floats(rows)).last_hidden_state
        said = heads(states).flatten(0, 1).split(HEADS, -1)
        meant = labels[rows].repeat_interleave(states.shape[1], 0).T
        loss = sum(cross_entropy(one, label) for one, label in zip(said, meant, strict=True))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            print(f"tower {step} {loss.item():.4f} {time.time() - start:.0f}s", flush=True)
    return loss.item()


def learn_to_see(model: JanusForConditionalGeneration, batches: Batches, *, seed: int) -> dict[str, float]:
    """Train a model's sight in place; the last losses, in nats above what must be."""
    torch.manual_seed(seed)
    model.eval().requires_grad_(False)
    carried = teach_tower(model, batches)
    return {"tower": carried, **teach_answers(model, batches, STEPS)}


def look_again(model: JanusForConditionalGeneration, batches: Batches, *, seed: int) -> dict[str, float]:
    """The answers alone, a second time, in place; the last loss, in nats above what must be."""
    torch.manual_seed(seed)
    model.eval().requires_grad_(False)
    return teach_answers(model, batches, AGAIN)


def teach_answers(model: JanusForConditionalGeneration, batches: Batches, steps: int) -> dict[str, float]:
    """Train encoder and aligner by the language model's answers."""
    trained = [*model.model.vision_model.parameters(), *model.model.aligner.parameters()]
    for one in trained:
        one.requires_grad_(True)
    groups = [{"params": trained[-len([*model.model.aligner.parameters()]) :]}]
    groups.append({"params": [*model.model.vision_model.parameters()], "scale": 0.1})
    optimizer, start, late = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01), time.time(), []
    for step in range(steps):
        part = min(1.0, (step + 1) / 20) * (1.02 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = RATE * part * group.get("scale", 1.0)
        questions, pixels, shares = batches.askings(ROWS)
        with torch.autocast("cpu", torch.bfloat16):
            said, _ = answer_loss(model, questions, pixels, shares, batches.id["eos"])
        said.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        late = [*late[-39:], said.item()]
        if step % 20 == 0:
            print(f"sight {step} answer {said.item():.4f} {time.time() - start:.0f}s", flush=True)
    model.requires_grad_(False)
    return {"answers": sum(late) / len(late)}
