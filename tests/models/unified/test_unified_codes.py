"""Drawing: what a row draws is a matter of its prompt and seed, and follows the likelihood."""

import itertools
import math

import pytest
import torch
from tiny_unified import CODES, LONG, SEEDS, SEVEN, SHORT, made, picture

from evenhand.models.unified.codes import RowDraws
from evenhand.models.unified.model import UnifiedModel


@pytest.mark.parametrize("guidance", [1.0, 0.5, 5.0])
def test_greedy_codes_are_the_argmax_of_teacher_forced_logits(model, guidance):
    codes = model.generate(SEVEN, seeds=SEEDS, guidance=guidance, temperature=0)
    forced = model.logits(SEVEN, codes, guidance=guidance)
    assert torch.equal(forced.argmax(dim=-1), codes)
    assert len({tuple(row) for row in codes.tolist()}) > 1
    # The seed decides nothing at temperature 0.
    assert torch.equal(codes, model.generate(SEVEN, seeds=range(7), guidance=guidance, temperature=0))


@pytest.mark.parametrize("options", [{}, {"guidance": 1.0}, {"guidance": 0.5, "top_k": 3}, {"temperature": 2.0}])
def test_seven_together_are_seven_alone(model, options):
    together = model.generate(SEVEN, seeds=SEEDS, **options)
    alone = [model.generate([text], seeds=[seed], **options) for text, seed in zip(SEVEN, SEEDS, strict=True)]
    assert torch.equal(together, torch.cat(alone))
    assert len({tuple(row) for row in together.tolist()}) == 7
    backwards = model.generate(SEVEN[::-1], seeds=SEEDS[::-1], **options)
    assert torch.equal(backwards.flip(0), together)


def test_batches_change_nothing(kind):
    small, large = made(kind, batch_size=2), made(kind, batch_size=7)
    assert torch.equal(small.generate(SEVEN, seeds=SEEDS), large.generate(SEVEN, seeds=SEEDS))


def test_each_prefix_is_read_once_and_on_its_own(model, kind):
    seen = []
    handle = model.family.language_model.register_forward_pre_hook(
        lambda module, args, given: seen.append(tuple(given["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    try:
        model.generate([LONG, SHORT, LONG, LONG], seeds=[1, 2, 3, 4], guidance=3.0)
    finally:
        handle.remove()
    prefixes = [model.family.prefix(LONG), model.family.prefix(SHORT)]
    nothing = [model.family.without_text(prefix) for prefix in prefixes]
    distinct = dict.fromkeys([*prefixes, *nothing])
    steps = model.code_shape[0] * model.code_shape[1] - 1
    assert [shape for shape in seen if shape[0] == 1] == [(1, len(prefix)) for prefix in distinct]
    assert len(seen) == len(distinct) + steps
    # Emu3 feeds the end of a row with its last code; nothing is fed behind the last code.
    assert sorted({shape for shape in seen if shape[0] == 8}) == [(8, 1)] + [(8, 2)] * (kind == "emu3")


def test_no_unconditional_branch_at_guidance_1(model):
    rows = []
    handle = model.family.language_model.register_forward_pre_hook(
        lambda module, args, given: rows.append(given["inputs_embeds"].shape[0]), with_kwargs=True
    )
    try:
        codes = model.generate([SHORT, LONG], seeds=[1, 2], guidance=1.0)
        model.log_prob([SHORT, LONG], codes, guidance=1.0)
    finally:
        handle.remove()
    assert rows[:2] == [1, 1]
    assert set(rows[2:]) == {2}


def test_draws_follow_the_likelihood(models):
    # The first two codes of 4,000 pictures of one prompt against exp(log_prob): total variation of a sample of n from
    # K cells is about sqrt(K / (2 pi n)) = sqrt(256 / (2 pi 4000)) = 0.10; a wrong law is far above that.
    model = UnifiedModel(models["janus"].family, name="x", revision="r", batch_size=500)
    codes = model.generate([SHORT] * 4000, seeds=range(4000), guidance=1.0)
    with torch.no_grad():
        pairs = torch.zeros(CODES * CODES, 9, dtype=torch.long)
        pairs[:, :2] = torch.tensor(list(itertools.product(range(CODES), repeat=2)))
        chances = model.log_prob([SHORT] * len(pairs), pairs, guidance=1.0)[:, :2].sum(dim=1).exp()
    assert float(chances.sum()) == pytest.approx(1.0, abs=1e-4)
    counts = torch.bincount(codes[:, 0] * CODES + codes[:, 1], minlength=CODES * CODES) / 4000
    assert float((counts - chances).abs().sum()) / 2 < 0.12
    # First code: 16 cells, each within 4.5 standard errors.
    first, seen = chances.view(CODES, CODES).sum(1), counts.view(CODES, CODES).sum(1)
    assert bool(((first - seen).abs() < 4.5 * (first * (1 - first) / 4000).sqrt() + 1e-9).all())


def test_top_k_draws_from_the_likeliest(model):
    codes = model.generate([LONG] * 30, seeds=range(30), guidance=2.0, top_k=2)
    with torch.no_grad():
        forced = model.logits([LONG] * 30, codes, guidance=2.0)
    best = forced.topk(2, dim=-1).indices
    assert bool((best == codes[..., None]).any(dim=-1).all())
    assert not torch.equal(best[..., 0], codes)
    assert torch.equal(model.generate([LONG], seeds=[5], top_k=1), model.generate([LONG], seeds=[5], temperature=0))


def test_training_mode_and_gradient_checkpointing_change_no_picture(kind):
    model = made(kind)
    calm = model.generate([SHORT, LONG], seeds=[1, 2])
    pixels, codes = model.decode(calm), model.encode([picture(3)])
    model.model.gradient_checkpointing_enable()
    model.model.train()
    assert torch.equal(model.generate([SHORT, LONG], seeds=[1, 2]), calm)
    assert torch.equal(model.decode(calm), pixels)
    assert torch.equal(model.encode([picture(3)]), codes)
    assert model.model.training
    assert model.family.language_model.training


@pytest.mark.parametrize("size", [5, 512, 513])
def test_codes_are_drawn_with_their_probabilities(size):
    # 40,000 draws: chi-square over codes expected 5 times and more, within 5 standard deviations of its mean.
    logits = 2 * torch.randn(size, generator=torch.Generator().manual_seed(1))
    logits[2] = -torch.inf
    logits -= logits.max()
    draws = RowDraws(range(2000), size)
    drawn = torch.cat([draws.next(logits.expand(2000, -1)) for _ in range(20)]).bincount(minlength=size)
    expected = 40_000 * logits.softmax(-1)
    often = expected >= 5
    freedom = int(often.sum()) - 1
    chi_square = float(((drawn - expected)[often] ** 2 / expected[often]).sum())
    assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)
    assert drawn[2] == 0
    assert len(drawn) == size


def test_a_rows_draws_are_its_own():
    logits = torch.randn(2, 513)
    together, alone = RowDraws([3, 4], 513), RowDraws([4], 513)
    for _ in range(50):
        assert together.next(logits)[1] == alone.next(logits[1:])[0]


def test_a_change_in_the_last_bits_seldom_changes_a_draw():
    # Probabilities change by about 1e-6 of themselves: of 40,000 draws about .04 change.
    logits = torch.randn(2000, 512, generator=torch.Generator().manual_seed(2))
    one, other = RowDraws(range(2000), 512), RowDraws(range(2000), 512)
    noise = torch.Generator().manual_seed(3)
    changed = 0
    for _ in range(20):
        near = logits + 1e-6 * torch.randn(2000, 512, generator=noise)
        changed += int((one.next(logits) != other.next(near)).sum())
    assert changed <= 2
