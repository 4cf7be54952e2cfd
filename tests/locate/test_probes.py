"""Probes: confusion matrices by hand, coverage of a classifier that is known, places where a group is and is not."""

import sys

import numpy as np
import pytest

from evenhand.errors import BadInputError, MissingExtraError, TooFewSamplesError
from evenhand.locate.balance import balanced_rows
from evenhand.locate.held_out import held_out_shares, rotated, stratified_folds
from evenhand.locate.probes import probe_place, probe_scores
from evenhand.metrics.distances import share_interval

pytest.importorskip("sklearn", reason="needs the extra `hf` (scikit-learn)")

_TWO, _THREE = ("male", "female"), ("light", "medium", "dark")


def test_scores_by_hand():
    # Of 4 men 3 are read right, of 4 women all: men are said 3 times, all right; women 5 times, 4 right.
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    found = probe_scores(np.array([[0, 0, 0, 1, 1, 1, 1, 1]]), labels, groups=_TWO, seed=0)
    assert found.accuracy.value == pytest.approx(7 / 8)
    assert found.precision.value == pytest.approx((1 + 4 / 5) / 2)
    assert found.recall.value == pytest.approx(7 / 8)
    assert found.f1.value == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert {name: one.value for name, one in found.recalls.items()} == {"male": 0.75, "female": 1.0}
    assert found.recall_gap.value == pytest.approx(0.25)
    assert found.recall_gap.low == 0
    assert (found.accuracy.n, found.recalls["male"].n) == (8, 4)


def test_three_groups_and_two_repeats_by_hand():
    # Recalls 2/2 and 1/2 of light, 1 and 1 of medium, 0 and 0 of dark, which is never said: its precision is 0.
    labels = np.array([0, 0, 1, 2])
    found = probe_scores(np.array([[0, 0, 1, 1], [0, 1, 1, 1]]), labels, groups=_THREE, seed=0)
    assert [one.value for one in found.recalls.values()] == pytest.approx([0.75, 1, 0])
    assert found.accuracy.value == pytest.approx(5 / 8)
    # Over both repeats light is said 3 times, all right; medium 5 times, twice right.
    assert found.precision.value == pytest.approx((1 + 2 / 5 + 0) / 3)
    assert found.recall_gap.value == 1


def test_one_repeat_is_jeffreys_interval():
    labels = np.repeat([0, 1], 50)
    predicted = labels.copy()
    predicted[:5] = 1
    found = probe_scores(predicted[None], labels, groups=_TWO, seed=0)
    for one, right in ((found.recalls["male"], 45), (found.recalls["female"], 50)):
        wanted = share_interval(right, 50, level=0.95)
        assert (one.low, one.high) == pytest.approx((wanted.low, wanted.high), abs=0.01)
    wanted = share_interval(95, 100, level=0.95)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((wanted.low, wanted.high), abs=0.01)


def test_repeats_are_not_pictures():
    labels = np.repeat([0, 1], 50)
    predicted = np.where(np.arange(100) % 10 == 0, 1 - labels, labels)
    once, often = (
        probe_scores(np.tile(predicted, (times, 1)), labels, groups=_TWO, seed=0).accuracy for times in (1, 20)
    )
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.05)


@pytest.mark.parametrize(
    ("recalls", "repeats", "each"),
    [
        ((0.8, 0.8), 1, 60),
        ((0.9, 0.7), 5, 60),
        ((0.98, 0.93), 1, 240),
        ((0.9, 0.85, 0.6), 5, 40),
        ((0.99, 0.99), 1, 60),
    ],
)
def test_intervals_hold_a_known_classifier(recalls, repeats, each):
    # 200 audits: of 95 % intervals, fewer than 178 has probability 2e-4. Pictures are unlike: some are read right in
    # every repeat, some in a part of them.
    count = len(recalls)
    held = np.zeros(2 + count)
    labels = np.repeat(np.arange(count), each)
    gap = max(recalls) - min(recalls)
    for seed in range(200):
        drawn_by = np.random.default_rng([seed, 7])
        means = np.array(recalls)[labels]
        ease = drawn_by.beta(3 * means, 3 * (1 - means))
        right = drawn_by.random((repeats, len(labels))) < ease
        other = (labels + drawn_by.integers(1, count, (repeats, len(labels)))) % count
        found = probe_scores(np.where(right, labels, other), labels, groups=_THREE[:count], seed=seed)
        held[0] += found.accuracy.low <= np.mean(recalls) <= found.accuracy.high
        held[1] += found.recall_gap.low <= gap <= found.recall_gap.high
        held[2:] += [one.low <= true <= one.high for one, true in zip(found.recalls.values(), recalls, strict=True)]
    assert (held >= 178).all(), held


def test_a_gap_of_nothing_has_the_floor_beside_it():
    # Two groups of 100 at recall .8: E|difference| of two binomials is sqrt(2 * 2 * .16 / (100 pi)) = .045.
    labels = np.repeat([0, 1], 100)
    predicted = np.where(np.arange(200) % 5 == 0, 1 - labels, labels)
    found = probe_scores(predicted[None], labels, groups=_TWO, seed=0).recall_gap
    assert (found.value, found.low) == (0, 0)
    assert found.floor == pytest.approx(0.045, abs=0.004)


def _place(pictures, *, groups=2, apart=3.0, features=6, seed=0):
    drawn_by = np.random.default_rng(seed)
    labels = np.arange(pictures) % groups
    seen = drawn_by.normal(size=(pictures, features))
    seen[np.arange(pictures), labels] += apart
    return seen, labels


def test_a_place_that_shows_the_group_and_one_that_does_not():
    names = [_TWO[one] for one in _place(200)[1]]
    read = probe_place("encoder", _place(200)[0], names, groups=_TWO, seed=0)
    # Two normal distributions 3 sqrt 2 apart: a linear rule is right in Phi(3 / sqrt 2) = 98.3 %.
    assert read.accuracy.low < 0.983 < read.accuracy.high + 0.01
    assert read.permuted.low < 0.5 < read.permuted.high
    assert (read.majority, read.features, read.control) == (0.5, 6, False)
    assert list(read.curve) == [20, 40, 80, 160]
    assert read.curve[160] == read.accuracy
    blind = probe_place("pixels", _place(200, apart=0.0)[0], names, groups=_TWO, control=True, seed=0)
    assert blind.control
    assert blind.accuracy.value < 0.6
    assert blind.recall_gap.low == 0


def test_more_features_than_pictures_and_columns_that_never_vary():
    seen, labels = _place(90, groups=3, apart=4.0, features=400)
    seen[:, 10:20] = 1.0
    found = probe_place("histogram", seen, [_THREE[one] for one in labels], groups=_THREE, repeats=2, seed=1)
    assert found.features == 400
    assert found.accuracy.value > 0.55  # chance is a third
    assert found.permuted.value < 0.5


def test_a_rotation_keeps_all_inner_products():
    # A probe with an L2 penalty depends on inner products alone: 30 pictures of 100 features, 100 standardised columns.
    seen, _ = _place(40, features=100)
    space = rotated(seen[:30], seen[30:])
    own, others = ((part - seen[:30].mean(axis=0)) / seen[:30].std(axis=0) for part in (seen[:30], seen[30:]))
    assert space.own.shape == (30, 29)  # of centred rows one follows from the others
    np.testing.assert_allclose(space.own @ space.own.T, own @ own.T, atol=1e-8)
    np.testing.assert_allclose(space.others @ space.own.T, others @ own.T, atol=1e-8)


def test_posteriors_are_of_probes_that_did_not_see_the_picture():
    # A label that is wrong on purpose does not pull its own picture's posterior.
    seen, labels = _place(60, apart=6.0)
    labels = labels.copy()
    labels[0] = 1
    shares = held_out_shares(seen, labels, groups=2, seed=0)
    assert shares.sum(axis=1) == pytest.approx(np.ones(60))
    assert shares[0, 0] > 0.9


def test_a_constant_place_reads_nothing():
    found = probe_place("codes", np.ones((80, 4)), list(_TWO) * 40, groups=_TWO, repeats=1, seed=0)
    assert found.accuracy.low <= 0.5 <= found.accuracy.high


def test_folds_are_stratified_and_cover_all():
    labels = np.repeat([0, 1, 2], [20, 10, 11])
    fold = stratified_folds(labels, folds=5, seed=0)
    for group, each in ((0, {4}), (1, {2}), (2, {2, 3})):
        assert set(np.bincount(fold[labels == group], minlength=5)) == each


def test_balance_by_hand():
    # Light: 30 men, 12 women; dark: 9 men, 20 women. The smallest cell has 9: 18 of each group.
    labels = ["male"] * 39 + ["female"] * 32
    strata = ["light"] * 30 + ["dark"] * 9 + ["light"] * 12 + ["dark"] * 20
    rows = balanced_rows(labels, groups=_TWO, strata=strata, seed=0)
    cells = {(labels[row], strata[row]): 0 for row in rows}
    for row in rows:
        cells[labels[row], strata[row]] += 1
    assert set(cells.values()) == {9}
    assert len(cells) == 4
    assert len(balanced_rows(labels, groups=_TWO, seed=0)) == 64
    fewer = balanced_rows(labels, groups=_TWO, seed=0, at_most=12)
    assert len(fewer) == 24
    assert set(fewer) <= set(balanced_rows(labels, groups=_TWO, seed=0))
    assert not np.array_equal(fewer, balanced_rows(labels, groups=_TWO, seed=1, at_most=12))


def test_strata_take_away_what_they_explain():
    # The place shows the stratum; nine of ten men are light, one of ten women is.
    labels = ["male"] * 200 + ["female"] * 200
    strata = (["light"] * 9 + ["dark"]) * 20 + (["dark"] * 9 + ["light"]) * 20
    drawn_by = np.random.default_rng(0)
    seen = np.array([one == "light" for one in strata])[:, None] + 0.1 * drawn_by.normal(size=(400, 3))
    free = probe_place("encoder", seen, labels, groups=_TWO, repeats=1, seed=0)
    held = probe_place("encoder", seen, labels, groups=_TWO, strata=strata, repeats=1, seed=0)
    assert free.accuracy.value > 0.85
    assert held.accuracy.low <= 0.5 <= held.accuracy.high


def test_a_seed_is_a_result():
    seen, labels = _place(60, apart=1.0)
    names = [_TWO[one] for one in labels]
    once, again, other = (probe_place("codes", seen, names, groups=_TWO, repeats=2, seed=seed) for seed in (3, 3, 4))
    assert once == again
    assert once != other


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"labels": ["male"] * 31 + ["female"] * 9}, TooFewSamplesError, "9 of 'female'"),
        ({"labels": ["male"] * 39 + ["other"]}, BadInputError, "'other'; allowed: male, female"),
        ({"labels": ["male"]}, BadInputError, r"shape \(40, 3\) for 1 labels"),
        ({"features": np.full((40, 3), np.nan)}, BadInputError, "NaN or infinity"),
        ({"strata": ["a"]}, BadInputError, "strata: got 1 for 40"),
        ({"repeats": 0}, BadInputError, "repeats: got 0"),
        ({"seed": -1}, BadInputError, "seed: got -1"),
        ({"groups": ("male",), "labels": ["male"] * 40}, BadInputError, "two and more"),
    ],
)
def test_bad_input_is_refused(change, error, said):
    given = {"features": np.zeros((40, 3)), "labels": list(_TWO) * 20, "groups": _TWO, "seed": 0, **change}
    with pytest.raises(error, match=said):
        probe_place("codes", **given)


def test_bad_answers_are_refused():
    with pytest.raises(BadInputError, match="repeats, n"):
        probe_scores(np.zeros((0, 3), int), np.zeros(3, int), groups=_TWO, seed=0)
    with pytest.raises(BadInputError, match="0 to 1"):
        probe_scores(np.full((1, 3), 2), np.zeros(3, int), groups=_TWO, seed=0)
    with pytest.raises(TooFewSamplesError, match="'female'"):
        probe_scores(np.zeros((1, 3), int), np.zeros(3, int), groups=_TWO, seed=0)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtraError, match=r"evenhand\[hf\]"):
        probe_place("codes", np.zeros((40, 3)) + np.arange(40)[:, None], list(_TWO) * 20, groups=_TWO, seed=0)
