"""What the text carries and what it should, by hand; and what the signals refuse."""

import json
from dataclasses import replace
from math import inf, nan, tanh

import pytest
import torch
from PIL import Image

from evenhand.attributes import load_attribute
from evenhand.classify.faces import Face, FaceReader
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.signals import FaceSignal, GivenSignal, WordScorer

GENDER = load_attribute("gender")

# Listed tokens: 3 and 8 of the first group, 5 of the second, 9 neutral.
IDS = torch.tensor([3, 5, 8, 9])
DIRECTION = torch.tensor([1.0, -1.0, 0.5, 0.0])
NOTHING = torch.empty(1, 0, dtype=torch.long)


def alpha(scorer: WordScorer, written: list[int], drafted: int) -> float:
    text = torch.tensor([written]) if written else NOTHING
    return float(scorer.alpha(text, torch.tensor([drafted]), IDS, DIRECTION)[0])


@pytest.mark.parametrize(
    ("decay", "written", "drafted", "total"),
    [
        (0.0, [], 0, 1.0),
        (0.0, [5, 5, 5], 0, 1.0),  # no memory: an early word hides nothing
        (0.0, [], 1, -1.0),
        (0.0, [], 2, 0.5),
        (1.0, [3, 0, 5], 0, 1.0),  # 1 + 1 - 1
        (1.0, [3, 8, 2], 1, 0.5),  # -1 + 1 + .5
        (0.5, [3, 7, 5], 0, 0.625),  # 1 - .5 + 0 + .125
        (1.0, [99, 0, 9], 0, 1.0),  # larger and smaller than every listed id, and neutral
    ],
)
def test_alpha_by_hand(decay, written, drafted, total):
    # alpha = tanh(4 * total / 2)
    assert alpha(WordScorer(decay=decay), written, drafted) == pytest.approx(tanh(2 * total), abs=1e-6)


def test_log_odds_scale_alpha():
    # log_odds l gives P(first group) = sigmoid(l), so alpha = 2 P - 1: l = ln 9 -> P = .9 -> .8
    assert alpha(WordScorer(log_odds=2.1972246), [], 0) == pytest.approx(0.8, abs=1e-6)


def test_rows_do_not_touch_each_other():
    generator = torch.Generator().manual_seed(0)
    written = torch.randint(0, 12, (6, 5), generator=generator)
    drafted = torch.randint(0, 4, (6,), generator=generator)
    scorer = WordScorer(decay=0.9)
    batch = scorer.alpha(written, drafted, IDS, DIRECTION)
    for row in range(6):
        single = scorer.alpha(written[row : row + 1], drafted[row : row + 1], IDS, DIRECTION)
        assert torch.allclose(batch[row], single[0], atol=1e-7)


@pytest.mark.parametrize("log_odds", [nan, inf, 0.0, -1.0, 1e9])
def test_log_odds_refused(log_odds):
    with pytest.raises(BadInputError, match="log_odds"):
        WordScorer(log_odds=log_odds)


@pytest.mark.parametrize("decay", [nan, inf, -0.1, 1.1])
def test_decay_refused(decay):
    with pytest.raises(BadInputError, match="decay"):
        WordScorer(decay=decay)


@pytest.mark.parametrize("s", [nan, inf, -inf, 1.01, -1.01])
def test_given_s_refused(s):
    with pytest.raises(BadInputError, match="s: got"):
        GivenSignal(s)


@pytest.mark.parametrize("s", [-1.0, -0.3, 0.0, 1.0])
def test_given_signal_says_what_was_given_and_opens_nothing(s):
    def opener() -> Image.Image:
        raise OSError("opened")

    claim = GivenSignal(s).claim(opener)
    assert (claim.s, claim.reason, claim.faces) == (s, "given", None)


class FixedReader(FaceReader):
    """Finds the same faces in every picture; no package is needed."""

    name = "fixed"

    def __init__(self, *faces: tuple[str, float]) -> None:
        self.sides = (384,)
        self._faces = tuple(Face(group, confidence, (0, 0, 9, 9)) for group, confidence in faces)

    def read(self, picture: Image.Image) -> tuple[Face, ...]:
        return self._faces


@pytest.mark.parametrize(
    ("faces", "certain", "s", "reason"),
    [
        ([], 0.4, None, "no face"),
        ([("male", 0.9)], 0.4, 0.8, "faces agree"),  # 2 * .9 - 1
        ([("female", 0.9)], 0.4, -0.8, "faces agree"),
        ([("female", 0.99), ("female", 0.75)], 0.4, -0.5, "faces agree"),  # the least certain: 2 * .75 - 1
        ([("male", 0.99), ("female", 0.99)], 0.4, None, "faces disagree"),
        ([("male", 0.69)], 0.4, None, "uncertain"),  # .38 is inside the band
        ([("male", 0.99), ("male", 0.6)], 0.4, None, "uncertain"),
        ([("male", 0.6)], 0.0, 0.2, "faces agree"),
        ([("male", 0.5)], 0.0, 0.0, "faces agree"),
    ],
)
def test_face_signal(faces, certain, s, reason):
    signal = FaceSignal(FixedReader(*faces), GENDER, certain=certain)
    claim = signal.claim(lambda: Image.new("RGB", (10, 10)))
    assert claim.s == (s if s is None else pytest.approx(s))
    assert (claim.reason, claim.faces) == (reason, len(faces))


@pytest.mark.parametrize("certain", [nan, inf, -0.1, 1.0])
def test_abstain_band_refused(certain):
    with pytest.raises(BadInputError, match="certain"):
        FaceSignal(FixedReader(), GENDER, certain=certain)


@pytest.mark.parametrize("signal", [WordScorer(decay=0.5), GivenSignal(0.25), FaceSignal(FixedReader(), GENDER)])
def test_settings_are_json(signal):
    assert json.loads(json.dumps(signal.settings)) == dict(signal.settings)


def test_the_sign_follows_the_attribute_and_foreign_groups_are_refused():
    # A face read as male with .99: s is positive where male is declared first, negative where it is second.
    swapped = replace(GENDER, groups=("female", "male"))
    said = [FaceSignal(FixedReader(("male", 0.99)), attribute).claim(lambda: None).s for attribute in (GENDER, swapped)]
    assert said == pytest.approx([0.98, -0.98])
    with pytest.raises(BadInputError, match="young"):
        FaceSignal(FixedReader(), replace(GENDER, name="age", groups=("young", "old")))
