"""Word lists written in the tokens of tokenizers built here, and of Gemma's where it is at hand."""

# ruff: noqa: S106  (special tokens are not passwords)

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.pieces import weights_from_words
from evenhand.mitigate.ala.table import WordTable, WordWeight
from evenhand.mitigate.ala.weights import SPELLINGS, TokenWeights, load_weights, save_weights
from evenhand.records import Attribute

GENDER = Attribute(
    name="gender",
    groups=("male", "female"),
    target=(0.5, 0.5),
    words={"male": ("man", "he"), "female": ("woman", "she")},
    steering_words={"male": ("man", "he", "policeman"), "female": ("woman", "she", "policewoman")},
    neutral_words=("person",),
    neutral_forms={
        "man": ("person", "adult"),
        "woman": ("person", "adult"),
        "he": ("they",),
        "she": ("they",),
        "policeman": ("officer",),
        "policewoman": ("officer",),
    },
    counterparts={
        "man": {"female": "woman"},
        "woman": {"male": "man"},
        "policeman": {"female": "policewoman"},
        "policewoman": {"male": "policeman"},
    },
    source="test",
)
RACE = Attribute(
    name="race",
    groups=("asian", "black", "white"),
    target=(1 / 3, 1 / 3, 1 / 3),
    words={"asian": ("asian",), "black": ("black",), "white": ("white",)},
    steering_words={"asian": ("asian",), "black": ("black",), "white": ("white",)},
    neutral_words=(),
    neutral_forms={},
    counterparts={
        "asian": {"black": "black", "white": "white"},
        "black": {"asian": "asian", "white": "white"},
        "white": {"asian": "asian", "black": "black"},
    },
    source="test",
)
CARRIES = {"man": "male", "he": "male", "woman": "female", "she": "female"}
LEARNT = ("man", "he", "woman", "she", "person", "they", "adult", "asian", "black", "white")
# Everything but the police is learnt as one token, each way it can be written; of the police, its first half.
TEXTS = [t for w in (*LEARNT, "police") for t in (f" {w}", f" {w.capitalize()}", f" {w.upper()}", w, w.capitalize())]
TEXTS += [w.upper() for w in LEARNT]
KINDS = ("bytelevel", "gemma", "metaspace", "llama")


def trained(kind: str) -> PreTrainedTokenizerFast:
    """A BPE whose merges are learnt from ``TEXTS``: one token each, and letters for the rest."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    letters = list("▁\nabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.")
    if kind == "bytelevel":  # as GPT-2
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "gemma":  # spaces become ▁ and nothing is put in front
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)|(?<=\n)"), "isolated")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    elif kind == "metaspace":  # every text begins with ▁, once
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    else:  # as Llama 2's: ▁ is put in front of every text, even of one that begins with a space
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁[^▁])|(?<=\n)"), "isolated")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator([t for text in TEXTS for t in (text, f"\n{text}")] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def merging(*pieces: str) -> PreTrainedTokenizerFast:
    """A Unigram that prefers the pieces given; a single letter costs more than any of them."""
    letters = [(letter, -20.0) for letter in "▁\n.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", -90.0), *letters, *((p, -5.0) for p in pieces)], unk_id=0))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def wordpieces(*pieces: str) -> PreTrainedTokenizerFast:
    """As BERT's and BLIP's: lower-cased, no sign for a space, ``##`` before what continues a word."""
    vocabulary = {piece: i for i, piece in enumerate(("[UNK]", ".", "a", *pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def whole_words(*words: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(("<unk>", *words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request) -> PreTrainedTokenizerFast:
    return trained(request.param)


@pytest.fixture(scope="module")
def weights(tokenizer) -> TokenWeights:
    return weights_from_words(GENDER, tokenizer)


def tokens_of(tokenizer: PreTrainedTokenizerFast, *names: str) -> list[int]:
    ids = [tokenizer.convert_tokens_to_ids(name) for name in names]
    assert None not in ids
    assert tokenizer.unk_token_id not in ids
    return ids


def state_after(weights: TokenWeights, ids: list[int]) -> int:
    (state,) = weights.states(torch.tensor([ids], dtype=torch.long)).tolist()
    return state


def carried(weights: TokenWeights, state: int, token: int) -> str | None:
    """The group a token carries in a state."""
    column = dict(zip(weights.token_ids.tolist(), range(len(weights.token_ids)), strict=True)).get(token)
    group = -1 if column is None else int(weights.group[state, column])
    return None if group < 0 else weights.groups[group]


def scored(weights: TokenWeights, ids: list[int]) -> list[str | None]:
    """The group each token of a text carries where it stands."""
    return [carried(weights, state_after(weights, ids[:at]), token) for at, token in enumerate(ids)]


def stand_ins(weights: TokenWeights, state: int, token: int) -> tuple[set[int], list[int | None]]:
    """Neutral tokens, and each group's token, that can stand where a token was drafted."""
    entry = int(weights.entry[state, weights.token_ids.tolist().index(token)])
    ids = weights.token_ids.tolist()
    neutral = {ids[c] for c in weights.neutral_forms[entry].tolist() if c >= 0}
    return neutral, [ids[c] if c >= 0 else None for c in weights.counterparts[entry].tolist()]


def spelling(weights: TokenWeights, state: int, token: int) -> str:
    entry = int(weights.entry[state, weights.token_ids.tolist().index(token)])
    return SPELLINGS[int(weights.spelling[entry])]


# --- words of one token ----------------------------------------------------------------------------------------


def after_a(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    """The id of a word after another one."""
    before = tokenizer.encode("he", add_special_tokens=False)
    ids = tokenizer.encode(f"he {text}", add_special_tokens=False)
    assert ids[: len(before)] == before
    assert len(ids) == len(before) + 1
    return ids[-1]


@pytest.mark.parametrize("word", ["man", "he", "woman", "she", "person", "they"])
def test_every_case_shares_its_words_group(word, tokenizer, weights):
    for text, name in ((word, "lower"), (word.capitalize(), "title"), (word.upper(), "upper")):
        token = after_a(tokenizer, text)
        assert carried(weights, 0, token) == carried(weights, 1, token) == CARRIES.get(word)
        if word in CARRIES:
            assert spelling(weights, 0, token) == name


@pytest.mark.parametrize("kind", ["bytelevel", "gemma", "llama"])  # with `metaspace` every word begins with ▁
def test_a_form_without_a_space_counts_at_the_start_alone(kind):
    tokenizer = trained(kind)
    weights = weights_from_words(GENDER, tokenizer)
    for text, name in (("Woman", SPELLINGS[3]), ("woman", "lower"), ("WOMAN", "upper")):
        (bare,) = tokens_of(tokenizer, text)
        assert carried(weights, 1, bare) == "female"
        assert carried(weights, 0, bare) is None
        assert spelling(weights, 1, bare) == name


def test_stand_ins_keep_spelling_and_place(tokenizer, weights):
    def forms(text: str) -> tuple[set[int], list[int | None]]:
        return stand_ins(weights, 0, after_a(tokenizer, text))

    person, adult, man = (after_a(tokenizer, word) for word in ("person", "adult", "man"))
    assert forms("woman") == ({person, adult}, [man, None])
    assert forms("MAN") == (
        {after_a(tokenizer, "PERSON"), after_a(tokenizer, "ADULT")},
        [None, after_a(tokenizer, "WOMAN")],
    )
    assert forms("She") == ({after_a(tokenizer, "They")}, [None, None])


def test_stand_ins_at_the_start_of_a_text():
    tokenizer = trained("bytelevel")
    weights = weights_from_words(GENDER, tokenizer)
    man, woman, person, adult, he, they = tokens_of(tokenizer, "Man", "Woman", "Person", "Adult", "he", "they")
    assert stand_ins(weights, 1, woman) == ({person, adult}, [man, None])
    assert stand_ins(weights, 1, he) == ({they}, [None, None])


def test_neutral_tokens_carry_nothing_anywhere(weights):
    gates = (weights.group >= 0).any(dim=0)
    used = weights.neutral_forms[weights.neutral_forms >= 0].unique()
    assert len(used)
    assert not gates[used.long()].any()


def test_a_groups_word_is_nobodys_neutral_form():
    odd = replace(GENDER, neutral_forms={"woman": ("man", "person"), "man": ("person",)})
    tokenizer = whole_words("▁man", "▁woman", "▁person")
    man, woman, person = tokens_of(tokenizer, "▁man", "▁woman", "▁person")
    weights = weights_from_words(odd, tokenizer)
    assert stand_ins(weights, 0, woman) == ({person}, [man, None])


def test_the_unknown_token_is_no_word():
    weights = weights_from_words(GENDER, whole_words("▁man", "▁woman", "▁person"))
    assert weights.token_ids.tolist() == [1, 2, 3]
    assert weights.direction.tolist() == [[1.0, -1.0, 0.0]] * 2
    assert weights.left_out == ("he", "policeman", "she", "policewoman")
    assert weights.depth == 0


def test_more_than_two_groups():
    tokenizer = trained("bytelevel")
    weights = weights_from_words(RACE, tokenizer)
    asian, black, white = tokens_of(tokenizer, "ĠAsian", "ĠBlack", "ĠWhite")
    assert [carried(weights, 0, token) for token in (asian, black, white)] == ["asian", "black", "white"]
    assert stand_ins(weights, 0, black) == (set(), [asian, None, white])


# --- words of several pieces -------------------------------------------------------------------------------------

SPLIT = ("▁police", "man", "woman", "▁man", "▁woman", "▁he", "▁she", "▁a", "▁dog")


def test_a_word_in_pieces_is_scored_once_at_its_end():
    tokenizer = merging(*SPLIT)
    weights = weights_from_words(GENDER, tokenizer)
    a, police, man, woman, dog = tokens_of(tokenizer, "▁a", "▁police", "man", "woman", "▁dog")
    assert tokenizer.encode(" a policewoman dog", add_special_tokens=False) == [a, police, woman, dog]
    assert scored(weights, [a, police, woman, dog]) == [None, None, "female", None]
    assert scored(weights, [a, police, man]) == [None, None, "male"]
    assert scored(weights, [a, man, woman]) == [None, None, None]  # `man` continues a word, and not police
    state = state_after(weights, [a, police])
    assert stand_ins(weights, state, woman) == (set(), [man, None])  # no `▁officer` fits after `▁police`
    assert stand_ins(weights, state, man) == (set(), [None, woman])


def test_a_word_may_begin_after_a_first_piece():
    tokenizer = merging(*SPLIT)
    weights = weights_from_words(GENDER, tokenizer)
    police, she, woman = tokens_of(tokenizer, "▁police", "▁she", "woman")
    assert scored(weights, [police, she]) == [None, "female"]
    assert scored(weights, [police, police, woman]) == [None, None, "female"]
    assert state_after(weights, [police, she]) == 0


def test_longer_paths_and_a_piece_that_is_a_word():
    # `▁he` is a listed word and begins `▁he` + `ro` + `ine`; the heroine is scored at her last piece besides.
    words = replace(GENDER, steering_words={"male": ("he",), "female": ("she", "heroine")})
    tokenizer = merging("▁he", "ro", "ine", "▁she")
    weights = weights_from_words(words, tokenizer)
    he, ro, ine, she = tokens_of(tokenizer, "▁he", "ro", "ine", "▁she")
    assert tokenizer.encode(" heroine", add_special_tokens=False) == [he, ro, ine]
    assert scored(weights, [he, ro, ine]) == ["male", None, "female"]
    assert scored(weights, [ro, ine]) == [None, None]
    assert scored(weights, [she, he, ro, ine, ine]) == ["female", "male", None, "female", None]


def test_paths_at_the_start_of_a_text():
    tokenizer = merging(*SPLIT, "Police")
    weights = weights_from_words(GENDER, tokenizer)
    first, woman, a = tokens_of(tokenizer, "Police", "woman", "▁a")
    assert scored(weights, [first, woman]) == [None, "female"]
    assert spelling(weights, state_after(weights, [first]), woman) == SPELLINGS[3]
    assert scored(weights, [a, first, woman]) == [None, None, None]


def test_a_first_piece_stands_in_on_demand_alone():
    words = replace(
        GENDER,
        steering_words={"male": ("cowboy",), "female": ("cowgirl",)},
        counterparts={"cowboy": {"female": "cowgirl"}},
        neutral_forms={"cowboy": ("rider",)},
    )
    tokenizer = merging("▁cowboy", "▁cowg", "irl", "▁rid", "er")
    boy, cowg, rid = tokens_of(tokenizer, "▁cowboy", "▁cowg", "▁rid")
    assert stand_ins(weights_from_words(words, tokenizer), 0, boy) == (set(), [None, None])
    asked = weights_from_words(words, tokenizer, first_pieces=True)
    assert stand_ins(asked, 0, boy) == ({rid}, [None, cowg])
    assert carried(asked, 0, cowg) is None


def test_an_ambiguous_first_piece_never_stands_in():
    # `▁fire` begins the neutral word and the woman's: it says nothing about which is meant.
    words = replace(
        GENDER,
        steering_words={"male": ("fireman",), "female": ("firewoman",)},
        counterparts={"fireman": {"female": "firewoman"}},
        neutral_forms={"fireman": ("firefighter",)},
    )
    tokenizer = merging("▁fireman", "▁fire", "woman", "fighter")
    (fireman,) = tokens_of(tokenizer, "▁fireman")
    assert stand_ins(weights_from_words(words, tokenizer, first_pieces=True), 0, fireman) == (set(), [None, None])


def test_neutral_forms_inside_a_word():
    words = replace(
        GENDER,
        steering_words={"male": ("fireman",), "female": ("firewoman",)},
        counterparts={},
        neutral_forms={"firewoman": ("firefighter", "person")},
    )
    tokenizer = merging("▁fire", "man", "woman", "fighter", "▁person")
    fire, woman, fighter = tokens_of(tokenizer, "▁fire", "woman", "fighter")
    weights = weights_from_words(words, tokenizer)
    assert stand_ins(weights, state_after(weights, [fire]), woman) == ({fighter}, [None, None])


def test_wordpieces():
    tokenizer = wordpieces("man", "woman", "he", "she", "person", "police", "##man", "##woman", "##n")
    weights = weights_from_words(GENDER, tokenizer)
    man, woman, person, police, tail, tailed = tokens_of(
        tokenizer, "man", "woman", "person", "police", "##man", "##woman"
    )
    assert weights.left_out == ()
    assert scored(weights, [man, police, tailed, woman]) == ["male", None, "female", "female"]
    assert scored(weights, [tailed, tail]) == [None, None]
    assert stand_ins(weights, 0, man) == ({person}, [None, woman])
    assert stand_ins(weights, state_after(weights, [police]), tail) == (set(), [None, tailed])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_the_tokenizer(kind):
    # The same sentence, in words or in letters: each listed word counts once.
    tokenizer = trained(kind)
    weights = weights_from_words(GENDER, tokenizer)
    ids = tokenizer.encode("He saw a POLICEWOMAN and a policeman", add_special_tokens=False)
    assert [group for group in scored(weights, ids) if group] == ["male", "female", "male"]
    assert len(ids) > 10


def test_two_groups_that_are_written_alike_are_told_apart_nowhere():
    # Without its accent the one is the other.
    tokenizer = wordpieces("rene", "man", "woman")
    alike = replace(GENDER, steering_words={"male": ("man", "rene"), "female": ("woman", "rené")})
    (rene,) = tokens_of(tokenizer, "rene")
    assert carried(weights_from_words(alike, tokenizer), 0, rene) is None


# --- tables and refusals -----------------------------------------------------------------------------------------


def test_weights_come_from_a_table():
    tokenizer = whole_words("▁man", "▁woman", "▁nurse", "▁person")
    words = {"man": WordWeight("male", 0.75), "woman": WordWeight("female", 1.0), "nurse": WordWeight("female", 0.25)}
    weights = weights_from_words(GENDER, tokenizer, table=WordTable("gender", ("male", "female"), words, "test"))
    assert weights.direction[0].tolist() == [0.75, -1.0, -0.25, 0.0]
    assert weights.words == ("man", "woman", "nurse")


def test_a_table_of_another_attribute_is_refused():
    table = WordTable("race", ("male", "female"), {"man": WordWeight("male", 1.0)}, "test")
    with pytest.raises(BadInputError, match="'race'"):
        weights_from_words(GENDER, whole_words("▁man", "▁woman"), table=table)


def test_a_word_of_two_words_is_left_out():
    odd = replace(GENDER, steering_words={"male": ("man", "old man"), "female": ("woman",)})
    assert weights_from_words(odd, trained("gemma")).left_out == ("old man",)


def test_a_fitted_table_may_be_one_sided(tmp_path):
    tokenizer = whole_words("▁man", "▁woman", "▁person")
    one = WordTable("gender", ("male", "female"), {"man": WordWeight("male", 1.0)}, "test")
    save_weights(weights_from_words(GENDER, tokenizer, table=one), tmp_path / "w")
    assert load_weights(tmp_path / "w", tokenizer).direction[0].tolist() == [1.0, 0.0]
    with pytest.raises(BadInputError, match="gender"):
        weights_from_words(GENDER, tokenizer, table=WordTable("gender", ("male", "female"), {}, "test"))


def test_a_group_without_a_word_is_refused():
    with pytest.raises(BadInputError, match="female"):
        weights_from_words(GENDER, whole_words("▁man", "▁person"))


@pytest.mark.parametrize("name", ["gender", "race", "age"])
def test_the_shipped_attributes(name, tmp_path):
    attribute, tokenizer = load_attribute(name), trained("bytelevel")
    weights = weights_from_words(attribute, tokenizer)
    save_weights(weights, tmp_path / "w")
    assert load_weights(tmp_path / "w", tokenizer).groups == attribute.groups
    assert not [word for word in weights.left_out if word.isalpha()]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_can_be_saved_and_read(kind, tmp_path):
    tokenizer = trained(kind)
    for attribute in (GENDER, RACE):
        for first_pieces in (False, True):
            save_weights(weights_from_words(attribute, tokenizer, first_pieces=first_pieces), tmp_path / "w")
            load_weights(tmp_path / "w", tokenizer)


# --- Gemma ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gemma():
    folder = Path(os.environ.get("EVENHAND_CACHE", Path.home() / ".cache/evenhand")) / "gemma-3-270m-q4km-1"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip("Gemma is not in EVENHAND_CACHE")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = weights_from_words(GENDER, tokenizer)
    assert weights.left_out == ()
    polic, ew, oman, man = tokens_of(tokenizer, "▁polic", "ew", "oman", "▁man")
    ids = tokenizer.encode(" A policewoman and a man", add_special_tokens=False)
    assert ids[1:4] == [polic, ew, oman]
    assert scored(weights, ids) == [None, None, None, "female", None, None, "male"]
    woman, person, adult = tokens_of(tokenizer, "▁woman", "▁person", "▁adult")
    assert stand_ins(weights, 0, man) == ({person, adult}, [None, woman])
