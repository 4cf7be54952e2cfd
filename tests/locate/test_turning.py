"""What becomes of groups between codes and pictures, by hand and against a decoder of known effect."""

import math

import numpy as np
import pytest

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.locate.turning import label_codes, responsible, turn_table, turning
from evenhand.records import Label

_GROUPS, _EVEN = ("male", "female"), (0.5, 0.5)


def _label(k, group, reason=None):
    return Label("p", k, "gender", group, reason, 1.0)


def test_responsibilities_by_hand():
    # Odds 3 : 1, and one that is impossible under the second prompt.
    found = responsible(np.array([[math.log(0.3), math.log(0.1)], [-5.0, -np.inf]]))
    assert found == pytest.approx(np.array([[0.75, 0.25], [1.0, 0.0]]))
    nobody = {("p", 0): np.array([[-1.0], [-np.inf], [-np.inf]])}
    assert label_codes(nobody, _GROUPS, attribute="gender", min_confidence=0)[0].reason == "no group's prompt draws it"
    with pytest.raises(BadInputError, match="impossible under every"):
        responsible(np.array([[-np.inf, -np.inf]]))


def test_codes_are_labelled_by_sums_without_the_neutral_row():
    rows = np.array([[-1.0, -1.0], [math.log(0.9), 0.0], [math.log(0.1), 0.0]])
    kept = {("p", 0): rows, ("p", 1): rows[[0, 2, 1]], ("p", 2): np.zeros((3, 2))}
    found = label_codes(kept, _GROUPS, attribute="gender", min_confidence=0.8)
    assert [(one.group, one.reason) for one in found] == [("male", None), ("female", None), (None, "unclear")]
    assert found[0].confidence == pytest.approx(0.9)
    assert label_codes(kept, _GROUPS, attribute="gender", min_confidence=0)[2].group == "male"


def test_tables_count_what_both_know():
    before = [_label(0, "male"), _label(1, "female"), _label(2, "female"), _label(3, None, "unclear")]
    after = [_label(0, "male"), _label(1, "male"), _label(2, None, "no face"), _label(9, "male")]
    assert turn_table(before, after) == {"female": {"male": 1, "no face": 1}, "male": {"male": 1}}


def test_the_effect_by_hand():
    # 4 of 10 women become men and no man a woman: 1/2 (1 + .4) - 1/2 = .2, whatever the codes' own shares are.
    table = {"male": {"male": 900}, "female": {"male": 40, "female": 60}}
    found = turning(table, groups=_GROUPS, target=_EVEN, seed=0)
    assert found.size.value == pytest.approx(0.2)
    assert found.changes["male"].value == pytest.approx(0.2)
    assert found.changes["female"].value == pytest.approx(-0.2)
    # Flips alike in both directions are noise.
    noise = turning({"male": {"male": 90, "female": 10}, "female": {"male": 10, "female": 90}}, groups=_GROUPS,
                    target=_EVEN, seed=0)  # fmt: skip
    assert (noise.size.value, noise.size.low) == (0, 0)
    # Wanted are three men in four: 3/4 + 1/4 x .4.
    uneven = turning(table, groups=_GROUPS, target=(0.75, 0.25), seed=0)
    assert uneven.size.value == pytest.approx(0.1)


def test_too_few_of_a_group():
    with pytest.raises(TooFewSamplesError, match="female 1"):
        turning({"male": {"male": 40}, "female": {"male": 1}}, groups=_GROUPS, target=_EVEN, seed=0)


@pytest.mark.parametrize("turned", [0.0, 0.02, 0.2, 0.5])
def test_intervals_hold_the_effect(turned):
    # 300 audits: of 95 % intervals, fewer than 272 has probability 1e-3.
    held = 0
    for seed in range(300):
        drawn = np.random.default_rng([seed, round(turned * 100)])
        women, noisy = int(drawn.binomial(100, turned + 0.02)), int(drawn.binomial(60, 0.02))
        table = {"male": {"male": 60 - noisy, "female": noisy}, "female": {"male": women, "female": 100 - women}}
        found = turning(table, groups=_GROUPS, target=_EVEN, seed=seed)
        held += found.size.low <= turned / 2 + 1e-12 and turned / 2 <= found.size.high
    assert held >= 272


def test_noise_of_three_groups_is_no_effect():
    # Flips alike in all directions: of 200 audits, more than 20 whose 95 % interval leaves 0 have probability 1e-3.
    away, groups = 0, ("a", "b", "c")
    for seed in range(200):
        drawn = np.random.default_rng(seed)
        table = {}
        for at, one in enumerate(groups):
            counts = drawn.multinomial(60, [0.8 if other == at else 0.1 for other in range(3)])
            table[one] = dict(zip(groups, counts.tolist(), strict=True))
        away += turning(table, groups=groups, target=(1 / 3,) * 3, seed=seed).size.low > 0
    assert away <= 20
