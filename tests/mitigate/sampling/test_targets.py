"""What shares may be wanted, and of whom."""

from dataclasses import replace

import pytest

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.mitigate.sampling.targets import read_target

GENDER, SKIN = load_attribute("gender"), load_attribute("skin_tone")


def test_even_over_one_attribute_and_over_a_product():
    assert read_target("even", [GENDER]).shares == (0.5, 0.5)
    both = read_target("even", [GENDER, SKIN])
    assert both.groups[:4] == (("male", "light"), ("male", "medium"), ("male", "dark"), ("female", "light"))
    assert both.names[1] == "male x medium"
    assert both.shares == (1 / 6,) * 6


def test_declared_targets_are_multiplied():
    # .75 and .25 by 1/3 each: .25 three times, then .08333.
    wanted = read_target("declared", [replace(GENDER, target=(0.75, 0.25)), SKIN]).shares
    assert wanted == pytest.approx((0.25, 0.25, 0.25, 1 / 12, 1 / 12, 1 / 12))


@pytest.mark.parametrize("given", ["female=0.3, male=0.7", {"female": 0.3, "male": 0.7}])
def test_shares_come_in_the_attributes_order(given):
    assert read_target(given, [GENDER]).shares == (0.7, 0.3)


def test_a_group_may_be_unwanted():
    assert read_target("male=0,female=1", [GENDER]).shares == (0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("male=0.7", "one for each of male, female"),
        ("male=0.5,female=0.3,robot=0.2", "one for each of male, female"),
        ("male=0.7,female=0.2", "sum is 0.9; allowed: 1"),
        ("male=1.5,female=-0.5", "share of female is -0.5"),
        ("male=nan,female=1", "share of male is nan"),
        ({"male": True, "female": 0.0}, "share of male is True"),
        ("male=0.5,male=0.5", "a share for each group once"),
        ("evenly", "write even, declared"),
        ("", "write even, declared"),
        ("male=half,female=half", "'male=half' in it"),
    ],
)
def test_what_is_no_target_is_refused(given, message):
    with pytest.raises(BadInputError, match=message):
        read_target(given, [GENDER])


@pytest.mark.parametrize("attributes", [[], [GENDER, GENDER]])
def test_attributes_are_there_once(attributes):
    with pytest.raises(BadInputError, match="each once"):
        read_target("even", attributes)
