"""Log-odds of listed words: numbers by hand, states, words of several pieces, more than two groups."""

from math import exp, tanh

import pytest
import torch

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.text.lexicon import WordScorer, _states_before
from evenhand.mitigate.ala.weights import TokenWeights

# Ids: 10 " man" (male), 11 " woman" (female), 12 " hero" (male), 13 "ine" (female after " hero"), 14 "Man" (male at the
# start), 15 " he" + 16 "ro" + 13 "ine" is heroine in three pieces. States: 0 inside, 1 start, 2 after " hero",
# 3 after " he", 4 after " he|ro".
IDS = [10, 11, 12, 13, 14, 15, 16]
MAN, WOMAN, HERO, INE, FIRST, HE, RO = IDS
OTHER = 99


def tables(groups: tuple[str, ...] = ("male", "female"), weight: float = 1.0) -> TokenWeights:
    base = [0, 1, 0, -1, -1, -1, -1]
    group = torch.tensor([base] * 5, dtype=torch.int8)
    group[1, 4], group[2, 3], group[4, 3] = 0, 1, 1
    entry = torch.tensor([[0, 1, 2, -1, -1, -1, -1]] * 5, dtype=torch.int16)
    entry[1, 4], entry[2, 3], entry[4, 3] = 3, 4, 4
    paths = {(0, HERO): 2, (0, HE): 3, (3, RO): 4}
    keys = sorted((state * 2**32 + token, reached) for (state, token), reached in paths.items())
    return TokenWeights(
        attribute="gender",
        groups=groups,
        token_ids=torch.tensor(IDS),
        group=group,
        weight=torch.where(group >= 0, weight, 0.0).float(),
        entry=entry,
        neutral_forms=torch.full((5, 1), -1, dtype=torch.int16),
        counterparts=torch.full((5, len(groups)), -1, dtype=torch.int16),
        spelling=torch.tensor([0, 0, 0, 3, 0], dtype=torch.int8),
        words=("man", "woman", "hero", "man", "heroine"),
        keys=torch.tensor([key for key, _ in keys]),
        nexts=torch.tensor([reached for _, reached in keys]),
        depth=2,
        tokenizer="t",
        left_out=(),
    )


def alpha(written: list[int], candidate: int, *, log_odds: float = 4.0, decay: float = 1.0) -> float:
    state = WordScorer(log_odds=log_odds, decay=decay).start(tables(), None)  # type: ignore[arg-type]
    ids = torch.tensor([written], dtype=torch.int64).reshape(1, -1)
    shares = state.shares(ids, torch.tensor([[candidate]]))[0, 0]
    assert float(shares.sum()) == pytest.approx(1)
    return float(shares[0] - shares[1])


def test_by_hand():
    # One word of 4 nats: alpha = tanh(4 / 2).
    assert alpha([], MAN) == pytest.approx(tanh(2))
    assert alpha([OTHER], WOMAN) == pytest.approx(tanh(-2))
    assert alpha([OTHER], OTHER) == 0
    # man, woman, woman: 4 - 4 - 4.
    assert alpha([MAN, WOMAN], WOMAN) == pytest.approx(tanh(-2))


def test_decay_by_hand():
    # woman is one token old, man two: L = 2 (0.25 - 0.5 + 0).
    assert alpha([MAN, WOMAN], OTHER, log_odds=2, decay=0.5) == pytest.approx(tanh(2 * (0.25 - 0.5) / 2))
    assert alpha([MAN, WOMAN], OTHER, decay=0.0) == 0


def test_weight_below_one_by_hand():
    state = WordScorer(log_odds=4).start(tables(weight=0.25), None)  # type: ignore[arg-type]
    shares = state.shares(torch.empty(1, 0, dtype=torch.int64), torch.tensor([[MAN]]))[0, 0]
    assert float(shares[0]) == pytest.approx(exp(1) / (exp(1) + 1))


def test_a_form_without_a_space_counts_at_the_start_alone():
    assert alpha([], FIRST) == pytest.approx(tanh(2))
    assert alpha([OTHER], FIRST) == 0
    assert alpha([FIRST], OTHER) == pytest.approx(tanh(2))
    assert alpha([OTHER, FIRST], OTHER) == 0


def test_a_word_of_several_pieces_counts_once():
    assert alpha([OTHER, HERO], OTHER) == pytest.approx(tanh(2))
    assert alpha([OTHER, HERO], INE) == pytest.approx(tanh(-2))  # hero is taken back
    assert alpha([OTHER, HERO, INE], OTHER) == pytest.approx(tanh(-2))
    assert alpha([OTHER, HE, RO], INE) == pytest.approx(tanh(-2))
    assert alpha([OTHER, INE], OTHER) == 0
    assert alpha([OTHER, HERO, OTHER], INE) == pytest.approx(tanh(2))  # something lies between: a hero, and no heroine
    assert alpha([MAN, HERO, INE], WOMAN) == pytest.approx(tanh(-2))


def test_pieces_with_decay():
    # heroine's last piece is one token old; hero, two old, was taken back.
    assert alpha([HERO, INE], OTHER, decay=0.5) == pytest.approx(tanh(-1))


def test_table_is_what_the_call_says():
    weights = tables()
    state = WordScorer(decay=0).start(weights, None)  # type: ignore[arg-type]
    table = state.by_token
    assert table is not None
    for row, written in enumerate(([OTHER], [], [OTHER, HERO], [OTHER, HE], [OTHER, HE, RO])):
        ids = torch.tensor([written], dtype=torch.int64).reshape(1, -1)
        assert torch.equal(state.shares(ids, torch.tensor([IDS]))[0], table[row])
    assert WordScorer(decay=1).start(weights, None).by_token is None  # type: ignore[arg-type]


def test_states_of_every_position():
    weights = tables()
    random = torch.Generator().manual_seed(0)
    for length in (1, 2, 3, 9):
        ids = torch.tensor([*IDS, OTHER])[torch.randint(8, (50, length), generator=random)]
        found = _states_before(weights, ids)
        for column in range(length):
            assert torch.equal(found[:, column], weights.states(ids[:, :column]))


def test_three_groups_by_hand():
    # " woman" is of group 1 of three: exp(4) : 1 : 1.
    state = WordScorer().start(tables(("a", "b", "c")), None)  # type: ignore[arg-type]
    shares = state.shares(torch.tensor([[OTHER]]), torch.tensor([[WOMAN]]))[0, 0]
    assert shares.tolist() == pytest.approx([1 / (exp(4) + 2), exp(4) / (exp(4) + 2), 1 / (exp(4) + 2)])


def test_rows_do_not_touch_each_other():
    state = WordScorer(decay=0.7).start(tables(), None)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(1)
    ids = torch.tensor([*IDS, OTHER])[torch.randint(8, (12, 6), generator=random)]
    candidates = torch.tensor(IDS).repeat(12, 1)
    whole = state.shares(ids, candidates)
    order = torch.randperm(12, generator=random)
    assert torch.allclose(state.shares(ids[order], candidates[order]), whole[order])
    assert torch.allclose(state.shares(ids[3:4], candidates[3:4]), whole[3:4])


@pytest.mark.parametrize(
    "wrong", [{"log_odds": 0}, {"log_odds": 101}, {"log_odds": float("nan")}, {"decay": -0.1}, {"decay": 2}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]):
    with pytest.raises(BadInputError, match="allowed"):
        WordScorer(**wrong)
