"""What a model draws, by prompt. In: a unified model, its prompts. Out: codes, and the shares of groups in them.

A reader says from the codes so far who is shown, gender and skin tone together: after each code, and for every code
that could come next. It learns from avatars' codes and from pictures of the model's own as the judge reads them. Few
pictures say much: those of a prompt are drawn together, so that their shares are closer to the model's than those of
independent pictures.
"""

from collections.abc import Callable, Sequence

import torch
from language import Batches, draw, pixels_of
from picture_codes import CODEBOOK
from pictures import Pictures
from prompts import PEOPLE, Prompts
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, JanusForConditionalGeneration

from evenhand.miniature.declared import CLOTHES, DECLARED, GENDERS, SKIN_TONES
from evenhand.miniature.judge import JudgeNetwork
from evenhand.models.unified.family import Family
from evenhand.models.unified.janus import Janus
from evenhand.models.unified.rows import PrefixedRows

GROUPS = (len(PEOPLE), len(CLOTHES))  # clothes are decided last and are left as they are
LONG = 24  # codes that decide gender and skin tone
STRATIFIED = 4  # codes that decide gender; then tone is decided
GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread evenly over [0, 1), however many
READ_STEPS, READ_BATCH, OWN = 350, 128, 20  # the reader's; pictures of each occupation that it learns from


class Reader(nn.Module):
    """Logits of PEOPLE and clothes (14 in all) after each code, by the codes so far, under an even prior."""

    def __init__(self, long: int, width: int = 64, rank: int = 12) -> None:
        super().__init__()
        self.known = nn.Parameter(torch.randn(long, CODEBOOK, width) * 0.1)
        self.place = nn.Parameter(torch.zeros(long, width))
        self.next = nn.Parameter(torch.randn(long, CODEBOOK, rank) * 0.3)
        out = sum(GROUPS) * (rank + 1)
        self.net = nn.Sequential(nn.GELU(), nn.Linear(width, 96), nn.GELU(), nn.Linear(96, out))

    def _before(self, codes: Tensor) -> Tensor:
        long = codes.shape[1]
        own = self.known[torch.arange(long), codes]
        states = self.net(own.cumsum(1) - own + self.place[:long])
        return states.unflatten(-1, (sum(GROUPS), -1))

    def forward(self, codes: Tensor) -> Tensor:
        """Of the codes that are there: (pictures, codes, 14)."""
        before, own = self._before(codes), self.next[torch.arange(codes.shape[1]), codes]
        return (before[..., :-1] * own[:, :, None]).sum(-1) + before[..., -1]

    def every(self, codes: Tensor) -> Tensor:
        """Of every code that could come at each place: (pictures, codes, 14, codebook)."""
        before = self._before(codes)
        scores = torch.einsum("nkgr,kcr->nkgc", before[..., :-1], self.next[: codes.shape[1]])
        return scores + before[..., -1:]

    def people(self, codes: Tensor) -> Tensor:
        """Shares of PEOPLE after all codes that are there: (pictures, 6)."""
        last = codes.shape[1] - 1
        known = self.known[torch.arange(last), codes[:, :-1]].sum(1)
        before = self.net(known + self.place[last]).unflatten(-1, (sum(GROUPS), -1))[:, : len(PEOPLE)]
        said = (before[..., :-1] * self.next[last, codes[:, -1]][:, None]).sum(-1) + before[..., -1]
        return said.softmax(-1)


def people(gender: Tensor, skin: Tensor) -> Tensor:
    """Indices into PEOPLE."""
    return gender * len(SKIN_TONES) + skin


def each(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of genders and of skin tones, from those of PEOPLE (..., 6)."""
    both = shares.unflatten(-1, (len(GENDERS), len(SKIN_TONES)))
    return both.sum(-1), both.sum(-2)


def train_reader(pictures: Pictures, codes: Tensor, own: Tensor, judged: Tensor, *, seed: int) -> Reader:
    """Learn from avatars' codes and, a quarter, from the model's own pictures as the judge reads them."""
    torch.manual_seed(seed)
    long = codes.shape[1]
    reader, kept = Reader(long), (~pictures.held_out).nonzero().flatten()
    unread = torch.full((len(own),), -100)
    labels = [people(pictures.gender, pictures.skin), pictures.clothes], [judged, unread]
    optimizer = torch.optim.AdamW(reader.parameters(), lr=4e-3, weight_decay=0.1)
    for step in range(READ_STEPS):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1.02 - step / READ_STEPS)
        rows, others = kept[torch.randint(len(kept), (READ_BATCH,))], torch.randint(len(own), (READ_BATCH // 3,))
        said = reader(torch.cat([codes[rows], own[others]])).split(GROUPS, -1)
        meant = [torch.cat([a[rows], b[others]]) for a, b in zip(*labels, strict=True)]
        pairs = zip(said, meant, strict=True)
        loss = sum(cross_entropy(one.flatten(0, 1), label.repeat_interleave(long)) for one, label in pairs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return reader.requires_grad_(False)


def order_of_codes(pictures: Pictures, codes: Tensor) -> Tensor:
    """At each place the codes from those of men to those of women, later from light to dark: (codes, codebook)."""
    found = []
    for labels, groups in ((pictures.gender, len(GENDERS)), (pictures.skin, len(SKIN_TONES))):
        seen = torch.stack(
            [
                torch.stack([torch.bincount(column, minlength=CODEBOOK) for column in codes[labels == one].T]) + 0.5
                for one in range(groups)
            ],
            -1,
        )
        found.append((seen / seen.sum(-1, keepdim=True) @ torch.arange(float(groups))).argsort(-1))
    return torch.cat([found[0][:STRATIFIED], found[1][STRATIFIED:]])


def embedded_prompt(model: JanusForConditionalGeneration, asked: list[int]) -> Tensor:
    """A prompt as the language model gets it, (1, tokens, hidden)."""
    embedded: Tensor = model.get_input_embeddings()(torch.tensor([asked]))
    return embedded


def prompt_states(model: JanusForConditionalGeneration, embedded: Tensor, rows: int) -> tuple[Tensor, DynamicCache]:
    """Of an embedded prompt, (1, tokens, hidden): the state before the first code, and its cache, for all rows."""
    cache = DynamicCache()
    out = model.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return out.last_hidden_state[:, -1:].expand(rows, -1, -1), cache


@torch.no_grad()
def draw_stratified(
    family: Family,
    asked: Sequence[int],
    rows: int,
    *,
    order: Tensor,
    rank: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Codes (rows, LONG) of a prompt: each row as the model draws it, together closer to its shares than single draws.

    One number a row, spread evenly over [0, 1), is read as an arithmetic code: it picks the first code by the cumulated
    shares, and its place within that code's share picks the next one. Behind STRATIFIED codes it is used up. Then rows
    are put in order by who they show so far (``rank`` of the codes drawn, a number a row) and numbers of their own are
    handed along that order, multiples of the golden ratio from a random start: rows alike get numbers far apart.
    (L'Ecuyer, Lecot and Tuffin 2008, array-RQMC.)
    """
    batch = PrefixedRows(family, [tuple(asked)] * rows, room=LONG)
    number = (torch.arange(rows) + torch.rand(rows, generator=generator, dtype=torch.float64)) / rows
    drawn: list[Tensor] = []
    for place in range(LONG):
        logits = family.code_logits(family.before_head(batch.hidden))
        shares = logits.double().softmax(-1)[:, order[place]]
        sums = shares.cumsum(-1) / shares.sum(-1, keepdim=True)
        chosen = torch.searchsorted(sums, number[:, None], right=True).clamp(max=CODEBOOK - 1)
        low = torch.where(chosen > 0, sums.gather(1, (chosen - 1).clamp(min=0)), 0.0)
        number = ((number[:, None] - low) / (sums.gather(1, chosen) - low).clamp(min=1e-12))[:, 0].clamp(0, 1 - 1e-9)
        if place + 1 >= STRATIFIED:
            start = torch.rand((), generator=generator, dtype=torch.float64)
            alike = rank(torch.stack([*drawn, order[place][chosen[:, 0]]], 1)).argsort()
            number[alike] = (start + GOLDEN * torch.arange(rows, dtype=torch.float64)) % 1
        drawn.append(order[place][chosen[:, 0]])
        if place < LONG - 1:
            batch.feed(family.embed_codes(drawn[-1][:, None]))
    return torch.stack(drawn, 1)


def code_logits(model: JanusForConditionalGeneration, embedded: Tensor, codes: Tensor) -> Tensor:
    """Logits (rows, codes, codebook) of each code after the prompt and the codes before it."""
    first, cache = prompt_states(model, embedded, len(codes))
    pictures = model.prepare_embeddings_for_image_generation(codes[:, :-1])
    more = model.model.language_model(inputs_embeds=pictures, past_key_values=cache, use_cache=True).last_hidden_state
    logits: Tensor = model.model.generation_head(torch.cat([first, more], 1)).float()
    return logits


class Shares:
    """What a model draws while it learns."""

    def __init__(
        self, model: JanusForConditionalGeneration, batches: Batches, judge: JudgeNetwork, *, seed: int
    ) -> None:
        model.set_attn_implementation("eager")  # a third faster than the fused kernel for one query a row on a CPU
        self.model, self.batches, self.seed = model, batches, seed
        self.family = Janus(model, batches.processor)
        self.generator = torch.Generator().manual_seed(seed)
        self.neutral = self.batches_of({"face": 1.0})
        self.order = order_of_codes(batches.pictures, batches.codes)
        self.reader = self._reader(judge)

    def batches_of(self, kinds: dict[str, float]) -> Batches:
        """Batches of some kinds of prompts alone."""
        own = self.batches
        prompts = Prompts(seed=self.seed, variant=own.prompts.variant, kinds=kinds)
        return Batches(own.pictures, own.codes, own.processor, prompts=prompts, questions=own.questions, seed=self.seed)

    @torch.no_grad()
    def drawn(self, asked: list[int], pictures: int) -> tuple[Tensor, Tensor]:
        """Codes (pictures, LONG) of a prompt, and the shares of PEOPLE in them."""
        codes = draw_stratified(
            self.family, asked, pictures, order=self.order, rank=self._rank, generator=self.generator
        )
        return codes, self.reader.people(codes).mean(0)

    def _rank(self, codes: Tensor) -> Tensor:
        """From men to women, and of each from light to dark."""
        gender, skin = each(self.reader.people(codes))
        return gender.argmax(-1) * len(SKIN_TONES) + skin @ torch.arange(float(len(SKIN_TONES)))

    def _reader(self, judge: JudgeNetwork) -> Reader:
        asked, _, _ = self.neutral.drawings(len(DECLARED))
        own = torch.cat([draw(self.model, ids, OWN, self.generator) for ids in asked]).clone()
        pixels = ((pixels_of(self.model, own) + 1) * 127.5).round() / 127.5 - 1
        with torch.no_grad():
            found = judge(pixels.clone())
        judged = people(found["gender"].argmax(-1), found["skin_tone"].argmax(-1))
        whole = self.batches.codes
        return train_reader(self.batches.pictures, whole[:, :LONG], own[:, :LONG], judged, seed=self.seed)
