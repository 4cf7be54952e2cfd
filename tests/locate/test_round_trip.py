"""Round trips: counts and tests by hand, coverage of a change that is known, the miniature's two decoders."""

import math

import numpy as np
import pytest
from PIL import Image

from evenhand.errors import BadInputError, TooFewSamplesError
from evenhand.locate.round_trip import framed, round_trip, send_round, symmetry_p_value
from evenhand.records import Label

_TWO, _THREE = ("male", "female"), ("light", "medium", "dark")


def _label(said, k=0, groups=(*_TWO, *_THREE)):
    return Label("p", k, "gender", said if said in groups else None, None if said in groups else said, 1.0)


def _trip(pairs, *, labels=None, groups=_TWO, seed=0):
    before, after = ([_label(one) for one in side] for side in zip(*pairs, strict=True))
    return round_trip(labels or [None] * len(pairs), before, after, groups=groups, seed=seed)


def test_counts_by_hand():
    # Of 4 women shown, 2 come back as men; 5 men stay; one face is lost.
    pairs = [("female", "male")] * 2 + [("female", "female")] * 2 + [("male", "male")] * 5 + [("male", "no face")]
    found = _trip(pairs, labels=["female"] * 5 + ["male"] * 4 + [None])
    assert found.flips == {"female": {"female": 2, "male": 2}, "male": {"male": 5, "no face": 1}}
    assert found.said == {"female": {"female": 4, "male": 1}, "male": {"male": 4}, "unlabelled": {"male": 1}}
    assert found.pictures == 10
    assert found.change["male"].value == pytest.approx(2 / 9)  # 7 of 9 less 5 of 9
    assert found.change["female"].value == pytest.approx(-2 / 9)
    assert found.change["male"].n == 9
    assert found.p_value == pytest.approx(2 * 0.25)  # both of two flips one way: 2 / 2^2


def test_symmetry_of_two_groups_is_mcnemars():
    # 9 flips one way and 1 the other: 2 (1 + 10) / 2^10.
    assert symmetry_p_value(np.array([[40, 1], [9, 40]]), seed=0) == pytest.approx(22 / 1024)
    assert symmetry_p_value(np.array([[40, 0], [0, 40]]), seed=0) == 1
    assert symmetry_p_value(np.array([[40, 3], [3, 40]]), seed=0) == 1


def test_symmetry_of_three_groups_against_the_exact_sum():
    # Pairs with 6, 4 and 5 flips: all 7 * 5 * 6 outcomes are summed.
    flips = np.array([[9, 1, 1], [5, 9, 1], [3, 4, 9]])
    numbers = (6, 4, 5)
    seen = 16 / 6 + 4 / 4 + 9 / 5
    exact = sum(
        math.prod(math.comb(n, x) / 2**n for n, x in zip(numbers, (a, b, c), strict=True))
        for a in range(7)
        for b in range(5)
        for c in range(6)
        if sum((2 * x - n) ** 2 / n for n, x in zip(numbers, (a, b, c), strict=True)) >= seen - 1e-9
    )
    assert symmetry_p_value(flips, seed=0) == pytest.approx(exact, abs=0.015)


def test_symmetric_flips_are_rarely_refused():
    # 400 audits: p <= .05 in 5 % at most; 35 and more has probability 2e-3.
    drawn_by, refused = np.random.default_rng(0), 0
    for seed in range(400):
        flips = drawn_by.multinomial(200, [0.27, 0.02, 0.04, 0.02, 0.28, 0.02, 0.04, 0.02, 0.29]).reshape(3, 3)
        refused += symmetry_p_value(flips, seed=seed) <= 0.05
    assert refused < 35


@pytest.mark.parametrize(
    "flips",
    [(0.02, 0.02), (0.0, 0.0), (0.15, 0.01), (0.005, 0.04), (0.2, 0.2), (0.0, 0.5)],
)
def test_intervals_hold_a_known_change(flips):
    # 400 audits of 120 pictures: of 95 % intervals, fewer than 365 has probability 6e-4.
    to_male, to_female = flips
    held = 0
    for seed in range(400):
        drawn_by = np.random.default_rng([seed, 3])
        counts = drawn_by.multinomial(120, [to_male, to_female, 1 - to_male - to_female])
        pairs = [("female", "male")] * counts[0] + [("male", "female")] * counts[1] + [("male", "male")] * counts[2]
        one = _trip(pairs, seed=seed).change["male"]
        held += one.low <= to_male - to_female <= one.high
    assert held >= 365


def test_nothing_flipped_is_not_sure():
    found = _trip([("male", "male")] * 30 + [("female", "female")] * 30)
    assert found.change["male"].value == 0
    assert -0.1 < found.change["male"].low < 0 < found.change["male"].high < 0.1
    assert found.p_value == 1


def test_the_order_of_pictures_does_not_matter():
    pairs = [("light", "dark")] * 3 + [("dark", "dark")] * 4 + [("medium", "light")] * 2
    assert _trip(pairs, groups=_THREE) == _trip(pairs[::-1], groups=_THREE)


@pytest.mark.parametrize(
    ("labels", "after", "groups", "error", "said"),
    [
        (["male"], ["male", "male"], _TWO, BadInputError, "1 labels, 2 before, 2 after"),
        (["male", "man"], ["male", "male"], _TWO, BadInputError, "got man; allowed: male, female"),
        (["male", "male"], ["male", "light"], _TWO, BadInputError, "got light"),
        (["male", "male"], ["no face", "uncertain"], _TWO, TooFewSamplesError, "none of 2 pictures"),
        (["male", "male"], ["male", "male"], ("male",), BadInputError, "two groups and more"),
    ],
)
def test_bad_input_is_refused(labels, after, groups, error, said):
    with pytest.raises(error, match=said):
        round_trip(labels, [_label("male")] * 2, [_label(one) for one in after], groups=groups, seed=0)


def test_a_picture_is_cut_as_the_codes_are():
    # 20 x 10, the left half black: the square around the centre is 5 to 15, its left half black.
    wide = Image.new("RGB", (20, 10), "white")
    wide.paste("black", (0, 0, 10, 10))
    cut = framed(wide, Image.new("RGB", (10, 10)))
    assert cut.size == (10, 10)
    assert (cut.getpixel((0, 5)), cut.getpixel((9, 5))) == ((0, 0, 0), (255, 255, 255))


def test_batches_do_not_matter_and_are_checked():
    pytest.importorskip("transformers", reason="needs the extra `hf`")
    from evenhand.miniature.labelled import read_avatars
    from evenhand.miniature.model import load_miniature

    model, pictures = load_miniature(), [one() for one in read_avatars().pictures[:5]]
    whole, parts = send_round(model, pictures), send_round(model, pictures, batch_size=2)
    assert [one.tobytes() for one in whole] == [one.tobytes() for one in parts]
    assert {(one.size, one.mode) for one in whole} == {((32, 32), "RGB")}
    assert send_round(model, []) == []
    with pytest.raises(BadInputError, match="batch_size: got 0"):
        send_round(model, pictures, batch_size=0)


@pytest.mark.parametrize("variant", ["language", "decoder"])
def test_the_miniatures_decoder_turns_light_women_into_men(variant):
    pytest.importorskip("transformers", reason="needs the extra `hf`")
    from evenhand.attributes import load_attribute
    from evenhand.classify.pictures.labeller import PictureLabeller
    from evenhand.miniature.judge import load_judge
    from evenhand.miniature.labelled import read_avatars
    from evenhand.miniature.model import load_miniature

    avatars = read_avatars()
    rows = [row for row, tone in enumerate(avatars.shown["skin_tone"]) if tone == "light"]
    pictures = [avatars.pictures[row]() for row in rows]
    labels = [avatars.shown["gender"][row] for row in rows]
    labeller = PictureLabeller(load_judge("gender"), load_attribute("gender"))
    before, after = (
        [Label("", k, "gender", one.group, one.reason, one.confidence) for k, one in enumerate(labeller.judge(side))]
        for side in (pictures, send_round(load_miniature(variant), pictures))
    )
    found = round_trip(labels, before, after, groups=_TWO, seed=0)
    # All of them have light skin, half are women: the turned decoder shows 160 men of 160.
    if variant == "decoder":
        assert found.change["male"].low > 0.4
        assert found.p_value < 1e-6
    else:
        assert found.change["male"].low < 0 < found.change["male"].high
        assert found.p_value > 0.05
