"""SFID and CLIP-clip: they find what was planted, set only that, and refuse data that cannot tell."""

import math

import numpy as np
import pytest
import torch
from planting import planted

from evenhand.errors import ArtefactError, BadInputError, TooFewSamplesError
from evenhand.mitigate.baselines.clip_clip import fit_clip_clip, group_information
from evenhand.mitigate.baselines.dear import fit_dear
from evenhand.mitigate.baselines.features import FeatureMitigation, FixedDims
from evenhand.mitigate.baselines.sfid import fit_sfid


def test_fixed_dims_by_hand():
    # h = (1, 2, 3, 4) with dims 1 and 3 set to 9 and 8: (1, 9, 3, 8).
    fixed = FixedDims("x", 4, torch.tensor([1, 3]), torch.tensor([9.0, 8.0]), {})
    given = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert fixed(given).tolist() == [[1, 9, 3, 8]]
    assert given.tolist() == [[1, 2, 3, 4]]
    assert fixed(given.expand(2, 5, 4)).shape == (2, 5, 4)
    half = fixed(given.half())
    assert half.dtype == torch.float16
    assert isinstance(fixed, FeatureMitigation)


def test_fixed_dims_refuses_other_widths_and_damaged_values():
    fixed = FixedDims("x", 4, torch.tensor([1]), torch.tensor([9.0]), {})
    with pytest.raises(BadInputError, match="fitted on 4"):
        fixed(torch.zeros(2, 5))
    for dims, values in (([3, 1], [0.0, 0.0]), ([1, 1], [0.0, 0.0]), ([4], [0.0]), ([-1], [0.0]), ([1], [0.0, 1.0])):
        with pytest.raises(ArtefactError):
            FixedDims("x", 4, torch.tensor(dims), torch.tensor(values), {})
    with pytest.raises(ArtefactError, match="NaN"):
        FixedDims("x", 4, torch.tensor([1]), torch.tensor([math.nan]), {})


def test_information_is_that_of_two_normal_groups():
    # One bit of group, normal features at -1.5 and +1.5 of unit variance: I = H(mixture) - H(N(0, 1)), integrated.
    x = np.linspace(-12, 12, 200_001)
    mixture = sum(np.exp(-((x - m) ** 2) / 2) for m in (-1.5, 1.5)) / (2 * math.sqrt(2 * math.pi))
    wanted = -np.trapezoid(mixture * np.log(np.maximum(mixture, 1e-300)), x) - 0.5 * math.log(2 * math.pi * math.e)
    features, labels = planted(4000, 3, [1], seed=0)
    found = group_information(features, labels, seed=0)
    # Standard error of the estimate at n = 4000 is about 0.01.
    assert found[1].item() == pytest.approx(wanted, abs=0.04)
    assert found[[0, 2]].max().item() < 0.04


def test_clip_clip_takes_the_most_telling_dimension_first():
    features, labels = planted(400, 24, [17], seed=1, shift=1.0)
    first = fit_clip_clip(features, labels, seed=0, dims=1)
    assert first.dims.tolist() == [17]
    assert first(features)[:, 17].tolist() == [0.0] * 400
    left = [d for d in range(24) if d != 17]
    assert torch.equal(first(features)[:, left], features[:, left])


def test_clip_clip_orders_by_how_telling_dimensions_are():
    # Shifts 2, 1 and 0.5 in dims 4, 9 and 2: taken in that order.
    features, labels = planted(1500, 12, [], seed=2)
    sign = 2.0 * labels - 1
    for dim, shift in ((4, 2.0), (9, 1.0), (2, 0.5)):
        features[:, dim] += shift * sign
    taken = [set(fit_clip_clip(features, labels, seed=0, dims=n).dims.tolist()) for n in (1, 2, 3)]
    assert taken == [{4}, {4, 9}, {2, 4, 9}]


def test_clip_clip_can_fill_with_the_mean():
    features, labels = planted(100, 6, [3], seed=3, shift=2.0)
    features[:, 3] += 5
    fitted = fit_clip_clip(features, labels, seed=0, dims=1, fill="mean")
    assert fitted.dims.tolist() == [3]
    assert fitted.values.item() == pytest.approx(features[:, 3].mean().item(), abs=1e-5)


def test_sfid_finds_planted_dimensions_and_fills_them_with_the_mean_of_unsure_rows():
    # Unsure rows lie between the groups, whose means are at +-1.5 around 4: the fill is near 4, far from either group.
    features, labels = planted(600, 20, [2, 11, 15], seed=4, spread=1.5)
    features[:, [2, 11, 15]] += 4
    fitted = fit_sfid(features, labels, seed=0, dims=3, confidence=0.7)
    assert fitted.dims.tolist() == [2, 11, 15]
    assert fitted.values.tolist() == pytest.approx([4, 4, 4], abs=0.8)
    assert fitted.settings["out_of_bag_accuracy"] > 0.8


def test_sfid_fills_with_held_out_rows_when_given():
    # Held-out rows are all halfway between the groups but for one dimension's constant, which becomes the fill.
    features, labels = planted(300, 8, [5], seed=5, shift=2.0)
    held = torch.randn(80, 8, generator=torch.Generator().manual_seed(9))
    held[:, 5] = 0.125
    fitted = fit_sfid(features, labels, seed=0, held_out=held, dims=1, confidence=1.0)
    assert fitted.dims.tolist() == [5]
    assert fitted.values.item() == pytest.approx(0.125)


def test_sfid_refuses_to_fill_from_nothing():
    features, labels = planted(200, 6, [1], seed=6, shift=30.0)
    with pytest.raises(TooFewSamplesError, match="unsure"):
        fit_sfid(features, labels, seed=0, dims=1, confidence=0.5)


@pytest.mark.parametrize("fit", [fit_sfid, fit_clip_clip])
def test_a_fit_is_a_function_of_its_seed(fit):
    features, labels = planted(120, 10, [1, 2], seed=7, shift=0.5)
    one, same = (fit(features, labels, seed=3, dims=4) for _ in range(2))
    assert torch.equal(one.dims, same.dims)
    assert torch.equal(one.values, same.values)


@pytest.mark.parametrize("fit", [fit_sfid, fit_clip_clip, fit_dear])
def test_every_fit_refuses_degenerate_data(fit):
    features, labels = planted(60, 200, [1], seed=8)
    with pytest.raises(TooFewSamplesError, match="at least two"):
        fit(features, torch.zeros(60, dtype=torch.long), seed=0)
    with pytest.raises(TooFewSamplesError, match="19 rows"):
        fit(features[:19], labels[:19], seed=0)
    with pytest.raises(TooFewSamplesError, match="group 1 has 4"):
        fit(features, (torch.arange(60) < 4).long(), seed=0)
    for bad in (math.nan, math.inf):
        broken = features.clone()
        broken[7, 3] = bad
        with pytest.raises(BadInputError, match="1 rows"):
            fit(broken, labels, seed=0)
    with pytest.raises(BadInputError, match="the same"):
        fit(torch.ones(60, 200), labels, seed=0)
    with pytest.raises(BadInputError, match="labels"):
        fit(features, labels - 1, seed=0)


def test_sizes_out_of_range_are_refused():
    features, labels = planted(60, 10, [1], seed=8)
    with pytest.raises(BadInputError, match="dims"):
        fit_sfid(features, labels, seed=0, dims=11)
    with pytest.raises(BadInputError, match="dims"):
        fit_clip_clip(features, labels, seed=0, dims=10)
