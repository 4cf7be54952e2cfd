"""The divergence from a mixture of prompts: against enumeration of all pictures, and its gradient."""

from contextlib import nullcontext
from itertools import product

import pytest
import torch
from tiny_unified import LONG, SHORT

from evenhand.models.unified.likelihood import forced_logits
from evenhand.models.unified.mixture_pass import mixture_divergence

SHARES = (0.7, 0.3)


def prefixes(model, *texts):
    return [model.family.prefix(text) for text in texts]


def told(model, text, codes):
    return forced_logits(model.family, prefixes(model, text) * len(codes), codes, guidance=1).log_softmax(-1)


def test_against_whole_pictures_of_two_codes(model):
    # m(z1, z2) = sum_d pi_d p_d(z1) p_d(z2 | z1) by enumeration; its next-code probabilities are ratios of sums.
    few = 3
    positions = model.code_shape[0] * model.code_shape[1]
    pairs = torch.tensor(list(product(range(few), range(model.codebook_size))))
    codes = torch.zeros(len(pairs), positions, dtype=torch.long)
    codes[:, :2] = pairs
    with torch.no_grad():
        first = [told(model, text, codes)[:, 0] for text in (LONG, "a man")]
        second = [told(model, text, codes)[:, 1] for text in (LONG, "a man")]
        own = told(model, SHORT, codes)
        found = mixture_divergence(
            model.family,
            prefixes(model, SHORT) * len(codes),
            [prefixes(model, LONG, "a man")] * len(codes),
            codes,
            shares=SHARES,
            reference=nullcontext,
        )
    rows = torch.arange(len(codes))
    start = sum(share * one.exp() for share, one in zip(SHARES, first, strict=True))
    both = sum(
        share * one[rows, codes[:, 0]].exp()[:, None] * other.exp()
        for share, one, other in zip(SHARES, first, second, strict=True)
    )
    then = both / start[rows, codes[:, 0]][:, None]
    wanted = torch.stack(
        [(start * (start.log() - own[:, 0])).sum(-1), (then * (then.log() - own[:, 1])).sum(-1)], dim=1
    )
    assert torch.allclose(found[:, :2], wanted, atol=1e-4)
    assert (found > -1e-5).all()


def test_a_mixture_of_the_prompt_itself_is_no_distance(model):
    codes = torch.randint(0, model.codebook_size, (2, model.code_shape[0] * model.code_shape[1]))
    found = mixture_divergence(
        model.family,
        prefixes(model, LONG) * 2,
        [prefixes(model, LONG, LONG)] * 2,
        codes,
        shares=SHARES,
        reference=nullcontext,
    )
    assert found.abs().max() < 1e-5


def guided(model, own, codes, weights):
    """Log-probabilities of every next code, each picture at its own weight and by itself."""
    rows = [
        forced_logits(model.family, [prefix], picture[None], guidance=weight)
        for prefix, picture, weight in zip(own, codes, weights, strict=True)
    ]
    return torch.cat(rows).log_softmax(-1)


@pytest.mark.parametrize(
    ("weights", "mixed_weights"),
    [(None, None), ((1.0, 1.0), (1.0, 1.0)), ((3.0, 1.0), (3.0, 1.0)), ((0.5, 5.0), None), (None, (2.0, 3.0))],
)
@pytest.mark.parametrize("rows", [1, 10_000])
def test_the_gradient_is_autograds(model, rows, weights, mixed_weights, monkeypatch):
    from evenhand.models.unified import mixture_pass

    monkeypatch.setattr(mixture_pass, "_ROWS", rows)
    codes = torch.randint(
        0,
        model.codebook_size,
        (2, model.code_shape[0] * model.code_shape[1]),
        generator=torch.Generator().manual_seed(1),
    )
    weight = next(model.family.language_model.parameters())
    mixed = [prefixes(model, LONG, "a man"), prefixes(model, "a woman and a cat", SHORT)]
    neutral = prefixes(model, SHORT, LONG)
    found = mixture_divergence(
        model.family,
        neutral,
        mixed,
        codes,
        shares=SHARES,
        guidance=weights,
        mixed_guidance=mixed_weights,
        reference=nullcontext,
    )
    (slope,) = torch.autograd.grad(found.sum(), weight, retain_graph=True)
    with torch.no_grad():
        every = [guided(model, [one[d] for one in mixed], codes, mixed_weights or (1, 1)) for d in (0, 1)]
        along = torch.stack([one.gather(-1, codes[..., None])[..., 0].cumsum(-1) for one in every])
        before = torch.cat([torch.zeros(2, 2, 1), along[..., :-1]], -1) + torch.tensor(SHARES).log()[:, None, None]
        mixture = (before.log_softmax(0)[..., None] + torch.stack(every)).logsumexp(0)
    plain = guided(model, neutral, codes, weights or (1, 1))
    loss = (mixture.exp() * (mixture - plain)).sum()
    (wanted,) = torch.autograd.grad(loss, weight)
    assert found.sum().item() == pytest.approx(loss.item(), rel=1e-4)
    assert (slope - wanted).norm() <= 1e-5 * wanted.norm()
