"""Which of several prompts drew a picture: against codes of known distributions, and against the miniature's table."""

import math

import numpy as np
import pytest
import torch

from evenhand.errors import ArtefactError, BadInputError
from evenhand.locate.conditions import draw_conditions, score_conditions
from evenhand.locate.divergence import responsibilities, sequence_divergence
from evenhand.miniature.declared import declared_shares
from evenhand.miniature.model import FOLDERS, load_miniature

_FACE = "a photo of the face of a {who}, a person"


class _Coins:
    """Four codes a picture, each 0 or 1; P(1) is what the prompt says in percent."""

    name, revision, code_shape, codebook_size = "coins", "1", (2, 2), 2

    def __init__(self):
        self.largest = 0

    def generate(self, texts, *, seeds, guidance=None, temperature=1.0):
        assert (guidance, temperature) == (1.0, 1.0)
        drawn = [
            np.random.default_rng(seed).random(4) < int(text) / 100 for text, seed in zip(texts, seeds, strict=True)
        ]
        return torch.from_numpy(np.stack(drawn).astype(np.int64))

    def log_prob(self, texts, codes, *, guidance=None):
        self.largest = max(self.largest, len(codes))
        share = torch.tensor([int(text) / 100 for text in texts])[:, None]
        return torch.where(codes == 1, share, 1 - share).log()


def test_every_picture_is_scored_under_every_prompt():
    model = _Coins()
    found = draw_conditions(model, {"neutral": "50", "high": "80"}, pictures=40, seed=0, batch_size=7)
    assert model.largest == 7
    ones = found.codes["high"].sum(1)
    assert found.log_probs["high"][:, 0] == pytest.approx(np.full(40, 4 * math.log(0.5)), abs=1e-5)
    assert found.log_probs["high"][:, 1] == pytest.approx(ones * math.log(0.8) + (4 - ones) * math.log(0.2), abs=1e-5)
    assert (found.pair("high", "high", "neutral") == found.log_probs["high"][:, ::-1]).all()
    again = draw_conditions(model, {"neutral": "50", "high": "80"}, pictures=60, seed=0)
    assert (again.codes["high"][:40] == found.codes["high"]).all()


def test_each_code_has_its_number():
    # P(1) is .8: codes 1, 1, 0, 1 have log .8, log .8, log .2, log .8.
    found = score_conditions(_Coins(), ["80", "50"], torch.tensor([[1, 1, 0, 1]]))
    assert found.shape == (1, 2, 4)
    assert np.exp(found[0]) == pytest.approx(np.array([[0.8, 0.8, 0.2, 0.8], [0.5] * 4]))
    drawn = draw_conditions(_Coins(), {"neutral": "50", "high": "80"}, pictures=9, seed=0)
    own = score_conditions(_Coins(), ["50", "80"], torch.from_numpy(drawn.codes["high"]), batch_size=2)
    assert drawn.by_code["high"] == pytest.approx(own)
    assert drawn.log_probs["high"] == pytest.approx(own.sum(-1))


def test_a_model_that_compares_is_asked_once():
    class Comparing(_Coins):
        asked = 0

        def log_probs_under(self, texts, codes, *, guidance=None, batch_size=None):
            self.asked += 1
            assert (guidance, batch_size) == (1.0, 3)
            return torch.stack([self.log_prob([text] * len(codes), codes) for text in texts], dim=1).float()

        def mean_probabilities(self, text, codes, *, guidance=None, batch_size=None, positions=None):
            raise NotImplementedError

    model, codes = Comparing(), torch.randint(2, (10, 4), generator=torch.manual_seed(0))
    found = score_conditions(model, ["50", "80"], codes, batch_size=3)
    assert model.asked == 1
    assert found.dtype == np.float64
    assert found == pytest.approx(score_conditions(_Coins(), ["50", "80"], codes))


def test_the_divergence_of_coins_is_the_exact_sum():
    # Four throws: ones ~ Binomial(4, .5) or Binomial(4, .8).
    ones = np.arange(5)
    ways = np.array([math.comb(4, k) for k in ones])
    first, second = (ways * p**ones * (1 - p) ** (4 - ones) for p in (0.5, 0.8))
    middle = (first + second) / 2
    exact = ((first * np.log(first / middle)).sum() + (second * np.log(second / middle)).sum()) / 2
    found = draw_conditions(_Coins(), {"neutral": "50", "high": "80"}, pictures=4000, seed=1, batch_size=4000)
    wide = sequence_divergence(
        found.pair("neutral", "neutral", "high"), found.pair("high", "neutral", "high"), seed=0, level=0.999
    )
    assert wide.low <= exact <= wide.high
    assert wide.high - wide.low < 0.05


def test_bad_input_is_refused():
    with pytest.raises(BadInputError, match="all different"):
        draw_conditions(_Coins(), {"neutral": "50", "high": "50"}, pictures=4, seed=0)
    with pytest.raises(BadInputError, match="1 and more"):
        draw_conditions(_Coins(), {"neutral": "50", "high": "80"}, pictures=0, seed=0)
    found = draw_conditions(_Coins(), {"neutral": "50", "high": "80"}, pictures=4, seed=0)
    with pytest.raises(BadInputError, match="neutral, high"):
        found.pair("neutral", "neutral", "low")
    with pytest.raises(BadInputError, match="1 and more"):
        score_conditions(_Coins(), [], torch.zeros(1, 4, dtype=torch.long))
    broken = _Coins()
    broken.log_prob = lambda texts, codes, guidance=None: torch.full(codes.shape, math.nan)
    with pytest.raises(ArtefactError, match="NaN"):
        draw_conditions(broken, {"neutral": "50", "high": "80"}, pictures=4, seed=0)


@pytest.mark.skipif(not FOLDERS["language"].is_dir(), reason="the miniature's weights are not made yet")
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["language", "decoder"])
def test_likelihoods_alone_say_whom_the_codes_show(variant):
    # No picture is looked at. language: codes are biased as declared; decoder: its codes are even in gender.
    model = load_miniature(variant, batch_size=64)
    for who in ("plumber", "sewer"):
        texts = {
            name: _FACE.format(who=f"{name} {who}".removeprefix("neutral ")) for name in ("neutral", "male", "female")
        }
        found = draw_conditions(model, texts, pictures=64, seed=0, batch_size=64)
        shares = responsibilities(found.log_probs["neutral"][:, 1:], ("male", "female"), seed=0, level=0.999)
        wanted = declared_shares(who)[0] if variant == "language" else 0.5
        assert shares["male"].low <= wanted <= shares["male"].high
        assert shares["male"].high - shares["male"].low < 0.5
