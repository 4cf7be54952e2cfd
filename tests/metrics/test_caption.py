"""Caption utility: the neutral map, closed forms of BLEU, ROUGE-L and CIDEr, METEOR as published, pairing.

Tests of METEOR itself start Java once (about 10 s) and are marked slow; the words come from the Java tokenizer in the
others too, which takes well under a second.
"""

from math import e, sqrt
from shutil import which

import numpy as np
import pytest

from evenhand.errors import BadInputError, MissingExtraError, TooFewSamplesError
from evenhand.metrics import caption as module
from evenhand.metrics import java
from evenhand.metrics.caption import (
    METRICS,
    caption_utility,
    compare_caption_utility,
    neutralise,
    score_captions,
)
from evenhand.metrics.java import Meteor, penn_words

COUNTED = ("CIDEr", "ROUGE_L", "BLEU_4")


@pytest.fixture(scope="module")
def package():
    pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed (extra `quality`)")
    if which("java") is None:
        pytest.skip("no Java on this machine")


class FakeMeteor(Meteor):
    """Share of the best reference's words that the caption has: enough to see what is compared with what."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def score(self, caption, references):
        said = set(caption.lower().split())
        return max(len(said & set(text.lower().split())) / len(text.split()) for text in references)


def test_neutral_map_as_published():
    text = "A man, a GUY, a woman and a lady; son or boy, Men and women"
    assert neutralise(text) == "A person, a person, a person and a person; child or child, people and people"


@pytest.mark.parametrize("text", ["a girl and her mother", "he saw him", "a gentleman", "manual labor", "humans", ""])
def test_neutral_map_leaves_the_rest(text):
    assert neutralise(text) == text


def test_max_meteor_is_never_below_meteor_and_by_hand(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "Meteor", FakeMeteor)
    monkeypatch.setattr(module, "caption_package", lambda: tmp_path)
    captions = {"a": "a person sits", "b": "a man sits", "c": "a girl runs"}
    references = {"a": ["a man sits"], "b": ["a man sits"], "c": ["a girl runs", "a boy runs"]}
    scores = score_captions(captions, references, metrics=("METEOR", "MaxMETEOR")).by_picture
    # a: 2 of 3 words, 3 of 3 once "man" is "person". b: 3 of 3, then 2 of 3: the larger stays. c: 3 of 3 in both.
    assert scores["METEOR"].tolist() == pytest.approx([2 / 3, 1, 1])
    assert scores["MaxMETEOR"].tolist() == pytest.approx([1, 1, 1])


def test_identical_captions_in_closed_form(package):
    # Two pictures without a word in common, one reference each, caption = reference: BLEU and ROUGE 1, CIDEr 10.
    captions = {"a": "a man rides a horse", "b": "two dogs sleep on sofas"}
    found = score_captions(
        captions, {"a": ["A man rides a horse."], "b": ["Two dogs sleep on sofas."]}, metrics=COUNTED
    )
    assert found.by_picture["CIDEr"] == pytest.approx([10, 10])
    assert found.by_picture["ROUGE_L"] == pytest.approx([1, 1])
    assert found.by_picture["BLEU_4"] == pytest.approx([1, 1], abs=1e-6)


def test_cider_by_hand(package):
    # Every n-gram is in one picture of two, so all weigh ln 2 and cosines are those of plain counts.
    # a: "one two three four" against "one two three four five six": of the caption's 4, 3, 2, 1 n-grams all match;
    #    the reference has 6, 5, 4, 3: cosines 4/sqrt(24), 3/sqrt(15), 2/sqrt(8), 1/sqrt(3); lengths (in bigrams) differ
    #    by 2, sigma 6: e^(-4/72). b: two words, so orders 3 and 4 are 0: 10 * (1 + 1 + 0 + 0) / 4 = 5.
    captions = {"a": "one two three four", "b": "red cars"}
    references = {"a": ["one two three four five six"], "b": ["red cars"]}
    cosines = [4 / sqrt(24), 3 / sqrt(15), 2 / sqrt(8), 1 / sqrt(3)]
    found = score_captions(captions, references, metrics=("CIDEr",)).by_picture["CIDEr"]
    assert found == pytest.approx([10 * sum(cosines) / 4 * e ** (-4 / 72), 5.0])


def test_cider_is_the_mean_over_references(package):
    captions = {"a": "a man rides horses", "b": "two dogs sleep here"}
    references = {"a": ["a man rides horses", "seven purple planes fly"], "b": ["two dogs sleep here"]}
    assert score_captions(captions, references, metrics=("CIDEr",)).by_picture["CIDEr"] == pytest.approx([5, 10])


def test_rouge_by_hand(package):
    # Longest common subsequence "a sits" of 2: precision 2/3, recall 2/4, beta 1.2:
    # 2.44 * (2/3) * (1/2) / (1/2 + 1.44 * 2/3) = 0.5571.
    found = score_captions({"a": "a woman sits"}, {"a": ["a man there sits"]}, metrics=("ROUGE_L",))
    assert found.by_picture["ROUGE_L"] == pytest.approx([2.44 / 3 / (0.5 + 0.96)])


def test_bleu_pools_counts_over_captions_by_hand(package):
    # a: "the man rides a brown horse" against "a man rides a brown horse": of 6 words 5 match, of 5 pairs 4, of 4
    #    triples 3, of 3 fours 2. b: "dogs" against "two dogs": 1 of 1 word; nothing longer. Together 6/7, 4/5, 3/4,
    #    2/3; 7 words against 8: brevity e^(1 - 8/7).
    captions = {"a": "the man rides a brown horse", "b": "dogs"}
    references = {"a": ["a man rides a brown horse"], "b": ["two dogs"]}
    expected = (6 / 7 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25 * e ** (1 - 8 / 7)
    (found,) = caption_utility(captions, references, seed=0, metrics=("BLEU_4",))
    assert found.value == pytest.approx(expected, abs=1e-7)
    assert found.low <= found.value <= found.high


def test_bleu_over_captions_agrees_with_the_package(package):
    from pycocoevalcap.bleu.bleu import Bleu

    words = ("a", "man", "woman", "dog", "rides", "sits", "near", "the", "red", "blue", "car", "on", "street", "hat")
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(words, size=rng.integers(3, 12))) for _ in range(60)]
    captions = {str(index): texts[index] for index in range(20)}
    references = {str(index): texts[20 + 2 * index : 22 + 2 * index] for index in range(20)}
    theirs, _ = Bleu(4).compute_score(references, {name: [text] for name, text in captions.items()}, verbose=0)
    (ours,) = caption_utility(captions, references, seed=0, metrics=("BLEU_4",))
    assert ours.value == pytest.approx(theirs[3], rel=1e-9)


def test_brevity_looks_at_the_closest_reference(package):
    # 4 words, all n-grams match; references of 5 and 2 words: 5 is closer, so e^(1 - 5/4).
    captions = {"a": "one two three four", "b": "one two three four"}
    references = {name: ["one two three four five", "red cars"] for name in captions}
    (found,) = caption_utility(captions, references, seed=0, metrics=("BLEU_4",))
    assert found.value == pytest.approx(e**-0.25, abs=1e-7)


def test_words_as_the_coco_evaluation_cuts_them(package):
    # Published behaviour of the Penn Treebank tokenizer: clitics apart, lower case; punctuation is taken out after.
    assert penn_words(["A man, riding.", "", "It isn't  a café\u2028 dog!"]) == (
        ("a", "man", "riding"),
        (),
        ("it", "is", "n't", "a", "café", "dog"),
    )


def test_interval_is_the_bootstrap_of_the_mean(package):
    # ROUGE 1 for 30 pictures and 0 for 10: mean 0.75; Bayesian bootstrap: Beta(30, 10), 2.5% and 97.5%.
    from scipy.stats import beta

    captions = {f"{index:02}": "a man" if index < 30 else "zebra" for index in range(40)}
    references = {name: ["a man"] for name in captions}
    (found,) = caption_utility(captions, references, seed=1, metrics=("ROUGE_L",), replicates=20_000)
    assert found.value == pytest.approx(0.75)
    assert [found.low, found.high] == pytest.approx(beta(30, 10).ppf([0.025, 0.975]), abs=0.006)
    assert (found.n, found.unit, found.largest) == (40, "picture", 1.0)


def test_units_are_resampled_not_pictures(package):
    captions = {f"{index:02}": "a man" if index < 20 else "zebra" for index in range(40)}
    references = {name: ["a man"] for name in captions}
    scene = {name: f"s{int(name) // 10}" for name in captions}
    (alone,) = caption_utility(captions, references, seed=1, metrics=("ROUGE_L",))
    (together,) = caption_utility(captions, references, seed=1, metrics=("ROUGE_L",), unit=scene, unit_name="scene")
    assert together.n == 4
    # Four units of equal size against forty: standard errors sqrt(41/5) = 2.9 times apart.
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_paired_difference(package):
    before = {f"{index:02}": "a man sits" for index in range(40)}
    references = {name: ["a man sits"] for name in before}
    after = {**before, "00": "a dog", "01": "a dog"}
    same = compare_caption_utility(before, dict(before), references, seed=0, metrics=COUNTED)
    assert [(one.low, one.value, one.high) for one in same] == [(0.0, 0.0, 0.0)] * 3
    cider, rouge, bleu = compare_caption_utility(before, after, references, seed=0, metrics=COUNTED)
    assert rouge.name == "ROUGE_L difference"
    # "a dog" against "a man sits": common 1, precision 1/2, recall 1/3: 2.44 / 6 / (1/3 + 0.72) = 0.3861; two of 40.
    assert rouge.value == pytest.approx(-(1 - 2.44 / 6 / (1 / 3 + 0.72)) * 2 / 40)
    assert rouge.low < rouge.value < rouge.high <= 0.0
    assert (cider.largest, cider.floor) == (10.0, 0.0)
    assert bleu.value < 0


def test_pairing_takes_out_what_the_pictures_make_hard(package):
    # Half of the captions miss altogether in both runs; two get worse. One run is known to about +-0.15, the change to
    # far less.
    before = {f"{index:02}": "a man sits" if index % 2 else "zebra" for index in range(40)}
    references = {name: ["a man sits"] for name in before}
    options = {"seed": 0, "metrics": ("ROUGE_L",)}
    (alone,) = caption_utility(before, references, **options)
    (change,) = compare_caption_utility(before, {**before, "01": "a dog", "03": "a dog"}, references, **options)
    assert alone.high - alone.low > 0.25
    assert change.high - change.low < 0.1


def test_order_does_not_matter(package):
    before = {"a": "a man sits", "b": "a dog runs far", "c": "one red car"}
    after = {"c": "one car", "b": "a dog runs far", "a": "a woman sits"}
    references = {"a": ["a man sits down"], "b": ["a dog runs far"], "c": ["one red car stops"]}
    one = compare_caption_utility(before, after, references, seed=0, metrics=COUNTED)
    other = compare_caption_utility(dict(reversed(before.items())), after, references, seed=0, metrics=COUNTED)
    assert [x.value for x in one] == pytest.approx([x.value for x in other])
    assert [x.low for x in one] == pytest.approx([x.low for x in other])


# METEOR itself ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_meteor(package):
    with Meteor() as meteor:
        process = meteor._process
        # A perfect match has score 1 (Denkowski and Lavie 2014); case and the final stop are normalised away.
        assert meteor.score("A man rides a horse.", ["a man rides a horse ."]) == pytest.approx(1.0)
        assert meteor.score("purple zebra", ["a man rides horses"]) == 0.0
        # The best reference counts, whatever the order; text of the protocol itself is harmless.
        near, far = "a man rides a brown horse", "two dogs"
        best = meteor.score("a man rides a horse", [near])
        assert meteor.score("a man rides a horse", [far, near]) == pytest.approx(best)
        assert 0 < best < 1
        assert meteor.score("a man ||| rides\n a horse", [near]) == pytest.approx(best)
        # A stem match is worth less than an exact one, more than none.
        exact, stem = (meteor.score(text, ["the man rides"]) for text in ("the man rides", "the man riding"))
        assert 0 < stem < exact
        assert meteor.score("  ", [near]) == 0.0
        with pytest.raises(BadInputError, match="got none with words"):
            meteor.score("a", [" "])
        captions = {"a": "a person sits on a bench", "b": "a man rides a horse", "c": "a dog"}
        references = {"a": ["a woman sits on a bench"], "b": ["a man rides a horse"], "c": ["the lady walks"]}
        scores = score_captions(captions, references, meteor=meteor)
        assert tuple(scores.by_picture) == METRICS
        plain, largest = (scores.by_picture[name] for name in ("METEOR", "MaxMETEOR"))
        assert (largest >= plain).all()
        assert largest[0] == pytest.approx(1.0)
        assert plain[0] < 1.0
    assert process.poll() is not None  # Java has ended
    with pytest.raises(BadInputError, match="not running"):
        meteor.score("a", ["a"])


@pytest.mark.slow
def test_java_that_ends_early_is_an_error(package):
    with Meteor() as meteor:
        meteor._process.kill()
        meteor._process.wait()
        with pytest.raises(BadInputError, match="instead of a score"):
            meteor.score("a man", ["a man"])


# Refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("captions", "references", "metrics", "message"),
    [
        ({"a": "x"}, {"a": ["x"]}, ("SPICE",), "Stanford CoreNLP"),
        ({"a": "x"}, {"a": ["x"]}, ("MaxSPICE",), "Leave it out"),
        ({"a": "x"}, {"a": ["x"]}, ("Bleu",), r"got \('Bleu',\), allowed: METEOR, MaxMETEOR"),
        ({"a": "x"}, {"a": ["x"]}, ("CIDEr", "CIDEr"), "at most once"),
        ({"a": "x"}, {"a": ["x"]}, (), "allowed: METEOR"),
        ({"a": "x"}, {"b": ["x"]}, METRICS, "1 pictures have none, for example 'a'"),
        ({"a": "x"}, {"a": [" "]}, METRICS, "1 pictures have none"),
        ({}, {}, METRICS, "got 0"),
    ],
)
def test_refused(captions, references, metrics, message):
    with pytest.raises((BadInputError, TooFewSamplesError), match=message):
        score_captions(captions, references, metrics=metrics)


def test_other_pictures_in_the_second_set():
    with pytest.raises(BadInputError, match="2 pictures are in one set only, for example 'a'"):
        compare_caption_utility({"a": "x"}, {"b": "x"}, {"a": ["x"], "b": ["x"]}, seed=0)


def test_a_unit_for_every_picture():
    with pytest.raises(BadInputError, match="got none for 1 pictures, for example 'b'"):
        caption_utility({"a": "x", "b": "y"}, {"a": ["x"], "b": ["y"]}, seed=0, unit={"a": "s"})


def test_one_picture_has_no_interval(package):
    with pytest.raises(TooFewSamplesError, match="independent units"):
        caption_utility({"a": "a man"}, {"a": ["a man"]}, seed=0, metrics=("ROUGE_L",))


def test_references_of_punctuation(package):
    with pytest.raises(BadInputError, match="punctuation only"):
        score_captions({"a": "x"}, {"a": ["..."]}, metrics=("ROUGE_L",))


def test_without_java(monkeypatch, tmp_path):
    monkeypatch.setattr(java, "caption_package", lambda: tmp_path)
    monkeypatch.setattr(java, "which", lambda name: None)
    with pytest.raises(BadInputError, match="install one"), Meteor():
        pass
    with pytest.raises(BadInputError, match="no `java` on the PATH"):
        penn_words(["a"])


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'evenhand\[quality\]'"):
        score_captions({"a": "x"}, {"a": ["x"]})
