"""Claims from shares, by hand; and a classifier given as a callable."""

from dataclasses import replace

import pytest
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.picture.judge import JudgeSignal
from evenhand.mitigate.ala.picture.shares import claim_from_shares
from evenhand.mitigate.ala.signals import PictureSignal
from evenhand.records import Claim

GENDER = load_attribute("gender")
THREE = replace(GENDER, name="age", groups=("young", "middle", "old"))


def said(shares, *, certain=0.4, sharpen=False):
    return claim_from_shares(shares, certain=certain, sharpen=sharpen, reason="judge")


def test_two_groups():
    assert said((0.25, 0.75)) == Claim(-0.5, "judge", shares=(0.25, 0.75))
    assert said((0.75, 0.25), sharpen=True) == Claim(1.0, "judge", shares=(1.0, 0.0))
    assert said((0.65, 0.35)) == Claim(None, "uncertain")  # 0.3 < 0.4


def test_more_groups_have_shares_and_no_s():
    # Certainty is top minus runner-up: 0.6 - 0.3 = 0.3.
    assert said((0.1, 0.6, 0.3), certain=0.25) == Claim(None, "judge", shares=(0.1, 0.6, 0.3))
    assert said((0.1, 0.6, 0.3), certain=0.35) == Claim(None, "uncertain")
    assert said((0.1, 0.6, 0.3), certain=0.25, sharpen=True).shares == (0.0, 1.0, 0.0)


def test_a_tie_names_nobody_even_without_a_band():
    assert said((0.5, 0.5), certain=0.0) == Claim(None, "uncertain")
    assert said((0.4, 0.4, 0.2), certain=0.0).shares is None


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.4), (-0.1, 1.1), (float("nan"), 1.0), (float("inf"), 0.0)])
def test_bad_shares(shares):
    with pytest.raises(BadInputError, match="shares"):
        said(shares)


def test_a_judge_names_groups_or_keeps_their_order():
    picture = Image.new("RGB", (4, 4))
    by_name = JudgeSignal(lambda seen: {"female": 0.9, "male": 0.1}, GENDER, name="mine")
    in_order = JudgeSignal(lambda seen: [0.1, 0.9], GENDER, name="mine")
    assert by_name.claim(lambda: picture) == in_order.claim(lambda: picture) == Claim(-0.8, "judge", shares=(0.1, 0.9))
    assert isinstance(by_name, PictureSignal)
    assert by_name.settings == {"kind": "judge", "name": "mine", "certain": 0.4, "sharpen": False}


def test_a_judge_can_abstain():
    assert JudgeSignal(lambda seen: None, THREE, name="mine").claim(lambda: None) == Claim(None, "judge abstains")


@pytest.mark.parametrize("answer", [{"male": 1.0}, {"male": 0.5, "woman": 0.5}, [1.0], [0.2, 0.3, 0.5]])
def test_a_judge_of_other_groups(answer):
    with pytest.raises(BadInputError, match="judge"):
        JudgeSignal(lambda seen: answer, GENDER, name="mine").claim(lambda: Image.new("RGB", (4, 4)))


@pytest.mark.parametrize(("name", "certain"), [("", 0.4), ("mine", 1.0), ("mine", float("nan"))])
def test_bad_options(name, certain):
    with pytest.raises(BadInputError):
        JudgeSignal(lambda seen: None, GENDER, name=name, certain=certain)
