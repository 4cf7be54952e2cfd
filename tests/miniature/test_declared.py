import dataclasses

import pytest

from evenhand.errors import BadInputError
from evenhand.miniature.declared import (
    CLOTHES,
    DECLARED,
    GENDERS,
    REST,
    SKIN_TONES,
    TURNED,
    declared,
    declared_answers,
    declared_shares,
)
from evenhand.probes.occupations import listed_and_templates


def test_the_table_is_long_and_spread():
    males = [row.male for row in DECLARED.values()]
    assert len(males) >= 32
    assert (min(males), max(males)) == (0.03, 0.97)
    assert males.count(0.5) >= 2
    assert len({row.skin for row in DECLARED.values()}) >= 3


def test_it_holds_the_test_occupations_and_some_of_the_training_ones():
    test, _ = listed_and_templates("test")
    train, _ = listed_and_templates("train")
    names = list(DECLARED)
    assert names[:50] == [row.occupation for row in test]
    assert set(names[50:]) <= {row.occupation for row in train}


@pytest.mark.parametrize("row", [*DECLARED.values(), REST], ids=lambda row: row.occupation)
def test_every_row_is_a_distribution(row):
    assert 0 < row.male < 1
    assert sum(row.skin) == pytest.approx(1)
    assert sum(row.answered) == pytest.approx(1)
    assert min(*row.skin, *row.answered) > 0
    assert set(row.clothes) <= set(CLOTHES)
    assert row.clothes[0] != row.clothes[1]


def test_a_row_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        declared("sewer").male = 0.5
    with pytest.raises(TypeError):
        DECLARED["sewer"] = REST


def test_an_occupation_outside_the_table_is_even():
    assert declared_shares("unicorn keeper") == (0.5, 0.5)
    # A third is light and shown as men, half of the others are men: .34 + .66 / 2.
    assert declared_shares("unicorn keeper", variant="decoder") == (0.67, 0.33)


def test_the_decoder_by_hand():
    # Of electrical repairers .85 are light, and all of these are shown as men: .85 + .15 / 2 = .925.
    assert declared("electrical and electronics repairer").skin == (0.85, 0.1, 0.05)
    assert declared_shares("electrical and electronics repairer", variant="decoder") == pytest.approx((0.925, 0.075))
    # One citizen in ten: .1 + .9 / 2 = .55.
    assert declared_shares("citizen", variant="decoder") == (0.55, 0.45)


def test_the_decoder_by_simulation():
    # The rule, person by person: an even language model, then whoever has a certain skin tone is turned.
    for row in DECLARED.values():
        male = 0.0
        for tone, share in zip(SKIN_TONES, row.skin, strict=True):
            for gender in GENDERS:
                shown = TURNED[1] if tone == TURNED[0] else gender
                male += share / 2 * (shown == "male")
        assert declared_shares(row.occupation, variant="decoder")[0] == pytest.approx(male)


def test_skin_and_age_do_not_depend_on_the_variant():
    for attribute in ("skin_tone", "age"):
        assert declared_shares("sewer", attribute) == declared_shares("sewer", attribute, variant="decoder")


def test_understanding_differs_from_generation():
    gaps = []
    for row in DECLARED.values():
        male, female, _ = declared_answers(row.occupation)
        gaps.append(male / (male + female) - row.male)
    assert min(gaps) < -0.2
    assert max(gaps) > 0.2


def test_the_decoder_variant_answers_evenly():
    male, female, _ = declared_answers("sewer", variant="decoder")
    assert male == female


def test_unknown_names_are_refused():
    with pytest.raises(BadInputError, match="gender, skin_tone, age"):
        declared_shares("sewer", "race")
    with pytest.raises(BadInputError, match="language, decoder"):
        declared_shares("sewer", variant="vision")
