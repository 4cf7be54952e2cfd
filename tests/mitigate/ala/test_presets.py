"""The named modes as a model sees them: what they are made of, and the toy through all parts at once."""

# ruff: noqa: S106  (special tokens are not passwords)

import json
from math import atanh

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evenhand import registry
from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.ala import Ala
from evenhand.mitigate.ala.picture.given import GivenSignal
from evenhand.mitigate.ala.pieces import weights_from_words
from evenhand.mitigate.ala.presets import align, civil, nearest, neutral, paper
from evenhand.mitigate.ala.processor import AlaLogitsProcessor
from evenhand.mitigate.ala.rules import AlignRule, NearestRule, NeutralRule, PaperRule
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.models.protocol import Intervention, LogitsHook

MAN, WOMAN, PERSON = 1, 2, 3
NO_TEXT = torch.empty(1, 0, dtype=torch.long)


def words(*vocabulary: str) -> PreTrainedTokenizerFast:
    numbered = {word: i for i, word in enumerate(("<unk>", *vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(numbered, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return words("▁man", "▁woman", "▁person")


def picture() -> Image.Image:
    return Image.new("RGB", (4, 4))


def after(intervention: Ala, tokenizer: PreTrainedTokenizerFast) -> list[float]:
    """Probabilities of man, woman, person, where the model's logits are 3, 1, 2."""
    hook = intervention.start([picture], tokenizer)
    return torch.softmax(hook(NO_TEXT, torch.tensor([[-torch.inf, 3.0, 1.0, 2.0]])), dim=1)[0, 1:].tolist()


@pytest.mark.parametrize(
    ("s", "strength", "man", "woman"),
    [(0.6, 2.0, 0.416, 0.257), (0.6, 7.0, 0.029, 0.815), (0.0, 2.0, 0.096, 0.654)],
)
def test_the_published_update_on_the_toy(s, strength, man, woman, tokenizer):
    # The toy's text score of .98 is tanh(L / 2), so L = 2 atanh(.98). The numbers are worked out in test_kernel.
    published = Ala(
        "paper",
        load_attribute("gender"),
        rule=PaperRule(strength=strength),
        scorer=WordScorer(log_odds=2 * atanh(0.98), decay=1.0),
        signal=GivenSignal(s),
        continuation="emitted",
    )
    assert after(published, tokenizer)[:2] == pytest.approx([man, woman], abs=6e-4)


def test_align_leaves_what_paper_damages(tokenizer):
    plain = [0.665, 0.090, 0.245]
    for s in (0.6, 0.0):  # a picture that agrees, and one that says nothing
        strong = align(signal=GivenSignal(s), rule=AlignRule(strength=50.0))
        assert after(strong, tokenizer) == pytest.approx(plain, abs=5e-4)
        assert after(paper(signal=GivenSignal(s), strength=50.0), tokenizer)[1] > 0.99
    # man's .665 goes to woman's .090, but for e^-5.78 of it; person keeps its .245
    assert after(align(signal=GivenSignal(-0.6)), tokenizer) == pytest.approx([0.002, 0.753, 0.245], abs=1e-3)


def test_neutral_prefers_the_neutral_word(tokenizer):
    # alpha = tanh 2 = .964: man's .665 goes to person's .245, but for e^-5.78 of it; woman was not drafted
    assert after(neutral(), tokenizer) == pytest.approx([0.002, 0.090, 0.908], abs=1e-3)


MODES = [
    ("paper", paper(signal=GivenSignal(1.0)), "emitted"),
    ("align", align(signal=GivenSignal(1.0)), "draft"),
    ("neutral", neutral(), "draft"),
    ("nearest", nearest(signal=GivenSignal(1.0)), "emitted"),
    ("civil", civil(load_attribute("gender"), scorer=WordScorer(), weights=None), "emitted"),
]


@pytest.mark.parametrize(("name", "mode", "continuation"), MODES, ids=[mode[0] for mode in MODES])
def test_a_mode_is_an_intervention(name, mode, continuation, tokenizer):
    assert isinstance(mode, Intervention)
    assert (mode.name, mode.continuation) == (name, continuation)
    assert json.loads(json.dumps(mode.settings)) == dict(mode.settings)
    assert {"attribute", "rule", "text_signal", "picture_signal", "continuation"} <= set(mode.settings)
    assert isinstance(mode.start([picture], tokenizer), LogitsHook)


@pytest.mark.parametrize(
    ("name", "target"), [("paper", paper), ("align", align), ("neutral", neutral), ("nearest", nearest)]
)
def test_modes_are_found_by_name(name, target):
    assert registry.load("mitigations", name).__qualname__ == target.__qualname__


def test_the_published_parameters():
    settings = paper(signal=GivenSignal(1.0)).settings
    assert settings["rule"] == {"kind": "PaperRule", "strength": 2.0, "threshold": 0.1}
    assert settings["text_signal"]["decay"] == 1.0


def test_every_option_shows_in_the_settings():
    def seen(**options) -> str:
        return json.dumps(align(**{"signal": GivenSignal(1.0), **options}).settings, sort_keys=True)

    varied = [
        {},
        {"signal": GivenSignal(0.5)},
        {"rule": AlignRule(strength=3.0)},
        {"rule": AlignRule(abstain="neutral")},
        {"continuation": "emitted"},
        {"guarded": False},
        {"scorer": WordScorer(decay=0.5)},
    ]
    assert len({seen(**options) for options in varied}) == len(varied)


@pytest.mark.parametrize("strength", [float("nan"), -1.0, 1e6])
def test_absurd_strengths_are_refused(strength):
    for mode in (
        lambda: paper(signal=GivenSignal(1.0), strength=strength),
        lambda: align(signal=GivenSignal(1.0), rule=AlignRule(strength=strength)),
        lambda: neutral(rule=NeutralRule(strength=strength)),
    ):
        with pytest.raises(BadInputError, match="strength"):
            mode()


def test_every_batch_gets_a_fresh_hook(tokenizer):
    mode = align(signal=GivenSignal(-1.0))
    first, second = mode.start([picture], tokenizer), mode.start([picture], tokenizer)
    first(NO_TEXT, torch.tensor([[0.0, 3.0, 1.0, 2.0]]))
    assert first.claims()[0] is not None
    assert second.claims() == (None,)
    assert second.edits([[MAN]]) == ((),)


def test_one_mode_serves_two_tokenizers(tokenizer):
    mode, other = neutral(), words("▁the", "▁person", "▁woman", "▁man")
    for known in (tokenizer, other, tokenizer):
        person = known.convert_tokens_to_ids("▁person")
        scores = torch.zeros(1, 5)
        scores[0, known.convert_tokens_to_ids("▁man")] = 1.0
        hook = mode.start([picture], known)
        assert isinstance(hook, AlaLogitsProcessor)
        assert int(hook(NO_TEXT, scores).argmax()) == person


def test_given_weights_are_used_and_checked(tokenizer):
    weights = weights_from_words(load_attribute("gender"), tokenizer)
    parts = {"rule": PaperRule(), "scorer": WordScorer(), "signal": GivenSignal(-1.0), "continuation": "emitted"}
    mode = Ala("mine", load_attribute("gender"), weights=weights, **parts)
    for _ in range(2):
        assert after(mode, tokenizer)[1] > 0.9
        with pytest.raises(TokenizerMismatchError):
            mode.start([picture], words("▁woman", "▁man", "▁person"))


def test_the_users_own_words_are_not_taken_back(tokenizer):
    scores = torch.tensor([[-torch.inf, 3.0, 1.0, 2.0]])
    for asked, greedy in (("What is the man doing?", MAN), ("What is the woman doing?", PERSON), ("", PERSON)):
        hook = neutral().start([picture], tokenizer, asked=[asked])
        assert int(hook(NO_TEXT, scores).argmax()) == greedy


def test_asked_is_one_text_a_picture(tokenizer):
    with pytest.raises(BadInputError, match="asked"):
        neutral().start([picture], tokenizer, asked=["a", "b"])


def test_nearest_neutral_asks_no_picture(tokenizer):
    mode = nearest(rule=NearestRule(neutral=True))
    assert mode.signal is None
    found = after(mode, tokenizer)
    assert found[0] < 0.665
    assert found[1] == pytest.approx(0.090 / (1 - 0.665) * (1 - found[0]), abs=1e-3)  # only the draft was a candidate
