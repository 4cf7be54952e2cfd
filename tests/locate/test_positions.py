"""Where prompts come apart, against exact sums over a small model and against mixtures of known marginals."""

import itertools
import math

import numpy as np
import pytest
import torch

from evenhand.errors import BadInputError
from evenhand.locate.divergence import mixture_divergence, sequence_divergence
from evenhand.locate.positions import entering_information, position_divergence, position_probabilities

_PLACES, _CODES = 3, 4
# Groups share codes at the first place, none at the second, all at the third.
_FIRST = np.array([[0.4, 0.3, 0.2, 0.1], [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
_SECOND = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]])


class _Mixture:
    """Draws a group with a share, then each code from the group's table; ``text`` is the share of the first group."""

    name, codebook_size = "mixture", _CODES

    def draw(self, share, pictures, seed):
        drawn = np.random.default_rng(seed)
        first = drawn.random(pictures) < share
        rows = np.where(first[:, None, None], _FIRST, _SECOND)
        return (drawn.random((pictures, _PLACES, 1)) > rows.cumsum(-1)[..., :-1]).sum(-1)

    def shares(self, share, codes):
        """(pictures, places, codebook): the exact conditional probabilities."""
        found = np.empty((*codes.shape, _CODES))
        weight = np.stack([np.full(len(codes), share), np.full(len(codes), 1 - share)])
        for place in range(_PLACES):
            with np.errstate(invalid="ignore"):
                own = weight / weight.sum(0)  # NaN behind what no group draws
            found[:, place] = own[0][:, None] * _FIRST[place] + own[1][:, None] * _SECOND[place]
            weight = weight * np.stack([_FIRST[place][codes[:, place]], _SECOND[place][codes[:, place]]])
        return found

    def by_code(self, share, codes):
        with np.errstate(divide="ignore"):
            return np.nan_to_num(
                np.log(np.take_along_axis(self.shares(share, codes), codes[..., None], -1)[..., 0]), neginf=-np.inf
            )

    def mean_probabilities(self, text, codes, *, guidance=None, batch_size=None, positions=None):
        return torch.tensor(self.shares(float(text), codes.numpy()).mean(0)[positions or slice(None)]).float()


_MODEL = _Mixture()


def _exact_terms(share):
    """I(Z_t; D | Z_<t) of the mixture against the first group, summed over all pictures."""
    every = np.array(list(itertools.product(range(_CODES), repeat=_PLACES)))
    both = [np.exp(_MODEL.by_code(one, every).cumsum(1)) for one in (share, 1.0)]
    both = [np.where(np.isnan(one), 0.0, one) for one in both]
    whole = [one[:, -1] for one in both]
    terms, before = [], [np.ones(len(every)), np.ones(len(every))]
    for place in range(_PLACES):
        after = [one[:, place] for one in both]
        term = 0.0
        for own in (0, 1):
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = np.log(after[own] / (after[0] + after[1])) - np.log(before[own] / (before[0] + before[1]))
                term += 0.5 * float(np.nansum(np.where(whole[own] > 0, whole[own] * gain, 0.0)))
        terms.append(term)
        before = after
    return np.array(terms)


def _rows(share, pictures, seed):
    codes = _MODEL.draw(share, pictures, seed)
    return np.stack([_MODEL.by_code(one, codes) for one in (share, 1.0)], axis=1)


def _pair(share, pictures, seed):
    asked = _MODEL.draw(1.0, pictures, [seed, 1])
    second = np.stack([_MODEL.by_code(one, asked) for one in (share, 1.0)], axis=1)
    return _rows(share, pictures, [seed, 0]), second


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_exact_terms_add_up_to_the_closed_form(share):
    # The second place tells the groups apart for sure, so whole pictures have the closed form.
    terms = _exact_terms(share)
    assert terms.sum() == pytest.approx(mixture_divergence(share))
    assert terms[2] == pytest.approx(0, abs=1e-12)
    assert (terms[:2] > 0).all()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_intervals_hold_the_exact_terms(share):
    # 200 audits of 160 pictures; fewer than 178 of 95 % intervals has probability 2e-4.
    exact, held = _exact_terms(share), np.zeros(_PLACES)
    for seed in range(200):
        found = entering_information(*_pair(share, 160, seed), seed=seed)
        held += (found.low - 1e-9 <= exact) & (exact <= found.high + 1e-9)
    assert held.min() >= 178


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_terms_add_up_to_the_divergence_of_whole_pictures(share):
    first, second = _pair(share, 20000, 0)
    found = entering_information(first, second, seed=0)
    whole = sequence_divergence(first.sum(2), second.sum(2), seed=0, level=0.999)
    assert whole.low <= float(found.value.sum()) <= whole.high
    assert float(found.value.sum()) == pytest.approx(mixture_divergence(share), abs=0.01)


def test_intervals_hold_where_almost_everything_was_said_before():
    # Eight places, each with the same two tables: the last terms are made by few pictures.
    tables, places = np.array([[0.85, 0.1, 0.05], [0.1, 0.1, 0.8]]), 8
    every = np.array(list(itertools.product(range(3), repeat=places)))
    joint = np.exp(np.log(tables[:, every]).cumsum(-1))  # (groups, pictures, places)
    share = np.concatenate([np.full((len(every), 1), 0.5), joint[0] / joint.sum(0)], axis=1)
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    exact = joint[:, :, -1].mean(0) @ -np.diff(entropy, axis=1)
    held = np.zeros(places)
    for seed in range(200):
        drawn = np.random.default_rng(seed)
        codes = [drawn.choice(3, (160, places), p=own) for own in tables]
        found = entering_information(*(np.log(tables[:, one]).swapaxes(0, 1) for one in codes), seed=seed)
        held += (found.low <= exact) & (exact <= found.high)
        assert (found.value >= 0).all()
    assert held.min() >= 178
    assert exact[-1] < exact[0] / 50


def test_two_pictures_by_hand():
    # The first: even, then 3/4 (.6 against .2), then sure; the second says nothing. KL(3/4 || 1/2), KL(1 || 3/4).
    with np.errstate(divide="ignore"):
        first = np.log(np.array([[[0.6, 0.5], [0.2, 0.0]]]))
    second = np.log(np.array([[[0.3, 0.2], [0.3, 0.2]]]))
    found = entering_information(first, second, seed=0)
    by_hand = [0.75 * math.log(1.5) + 0.25 * math.log(0.5), math.log(4 / 3)]
    assert found.value == pytest.approx(np.array(by_hand) / 2)


def test_impossible_pictures_are_refused():
    rows = np.zeros((1, 2, 2))
    rows[0, 0, 1] = -np.inf
    with pytest.raises(BadInputError, match="impossible under the prompt that drew"):
        entering_information(rows, np.zeros((1, 2, 2)), seed=0)
    with pytest.raises(BadInputError, match="shape"):
        entering_information(np.zeros((2, 3, 2)), np.zeros((1, 2, 2)), seed=0)


def _marginal_divergences(share):
    first, second = share * _FIRST + (1 - share) * _SECOND, _FIRST
    middle = (first + second) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.nansum(one * np.log(one / middle), axis=1) for one in (first, second)]
    return (terms[0] + terms[1]) / 2


def _probabilities(share, seed, pictures=160):
    codes = torch.tensor(_MODEL.draw(share, pictures, seed))
    return position_probabilities(_MODEL, str(share), codes, blocks=8, batch_size=7)


def test_probabilities_are_means_of_blocks():
    codes = torch.tensor(_MODEL.draw(0.5, 19, 3))
    found = position_probabilities(_MODEL, "0.5", codes, blocks=4, batch_size=3)
    exact = _MODEL.shares(0.5, codes.numpy()[:16]).reshape(4, 4, _PLACES, _CODES).mean(1)
    assert found == pytest.approx(exact, abs=1e-6)
    part = position_probabilities(_MODEL, "0.5", codes, blocks=4, batch_size=3, positions=slice(1, 3))
    assert part == pytest.approx(exact[:, 1:], abs=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_intervals_hold_the_divergence_of_every_place(share):
    exact = _marginal_divergences(share)
    held = np.zeros(_PLACES)
    for seed in range(200):
        found = position_divergence(_probabilities(share, [seed, 0]), _probabilities(1.0, [seed, 1]))
        held += (found.low - 1e-6 <= exact) & (exact <= found.high + 1e-6)
    assert held.min() >= 178


def test_equal_prompts_do_not_differ():
    found = position_divergence(_probabilities(0.5, 0), _probabilities(0.5, 1))
    assert (found.low <= 1e-9).all()
    assert found.value.max() < 0.01


def test_what_memory_would_not_hold_is_refused():
    class Large:
        codebook_size = 10**8

    with pytest.raises(BadInputError, match="positions=slice"):
        position_probabilities(Large(), "x", torch.zeros(16, 100, dtype=torch.long))
    with pytest.raises(BadInputError, match="2 blocks"):
        position_probabilities(_MODEL, "1", torch.zeros(16, 3, dtype=torch.long), blocks=1)
    with pytest.raises(BadInputError, match="sum to 1"):
        position_divergence(np.ones((2, 3, 4)), np.ones((2, 3, 4)))
