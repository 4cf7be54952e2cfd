"""When a listed word is left alone: sentences written by hand, with what is right for each, on real tokenizers."""

# ruff: noqa: S106  (special tokens are not passwords)

import os
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedTokenizerFast

from evenhand.attributes import load_attribute
from evenhand.errors import BadInputError
from evenhand.mitigate.ala.contexts import (
    CONTINUES,
    HYPHEN,
    QUOTE,
    SENTENCE_END,
    TITLE,
    WORD_START,
    piece_flags,
    piece_texts,
)
from evenhand.mitigate.ala.guards import REASONS, GuardReader, GuardTables, blocked, exempt_groups, guard_tables
from evenhand.mitigate.ala.pieces import weights_from_words
from evenhand.mitigate.ala.weights import TokenWeights
from evenhand.records import Attribute, Guard

ATTRIBUTES = {name: load_attribute(name) for name in ("gender", "race", "age")}
OTHER, NAME, QUOTED, WORD = "other sense", "name", "quoted", "other word"

# The word in question stands between stars. What is right: "" where it stands for a group of people and may be moved,
# else why it may not be.
SENTENCES = [
    # A group of people.
    ("gender", "a *man* rides a horse", ""),
    ("gender", "a *woman* holding a black umbrella", ""),
    ("gender", "*Man* on a bench", ""),
    ("gender", "The *king* waves to the crowd", ""),
    ("gender", "a *male* nurse", ""),
    ("gender", "two *men* in suits.", ""),
    ("gender", "a dog. *He* is brown", ""),
    ("gender", "a photo (of a *girl*)", ""),
    ("gender", "A cat sits, and *she* smiles", ""),
    ("gender", "the *mother* of two children", ""),
    ("gender", "the *father* of the bride", ""),
    ("gender", "a *cowboy* riding a bull", ""),
    ("gender", 'a sign that says "stop" and a *man*', ""),
    ("gender", "a sign that says “stop” and a *boy*", ""),
    ("gender", "the *chairman* speaks", ""),
    ("gender", "a *guy* with a rope", ""),
    ("gender", 'he said "hello." *She* waved', ""),
    ("gender", "Is it raining? *Women* walk by", ""),
    ("gender", "In the rain *He* runs", ""),  # a capital, yet a pronoun
    ("race", "a *black* man on a bench", ""),
    ("race", "a *white* woman with a dog", ""),
    ("race", "a *Black* man on a bench", ""),
    ("race", "an *Asian* couple", ""),
    ("race", "an *asian* girl in a dress", ""),
    ("race", "two *white* men", ""),
    ("race", "an *African* American family", ""),
    ("race", "a group of *asians*", ""),
    ("age", "an *old* man feeds birds", ""),
    ("age", "a *young* woman", ""),
    ("age", "an *elderly* couple", ""),
    ("age", "an *older* gentleman", ""),
    # Quotations.
    ("gender", 'a sign that says "the *king*', QUOTED),
    ("gender", 'a shirt with "best *dad* ever" on it', QUOTED),
    ("gender", "a poster reading “the *man* of steel”", QUOTED),
    ("gender", 'she asks "is *he* here"', QUOTED),
    ("gender", 'a cup "one" and a cup "for *her*"', QUOTED),
    ("race", 'a sign: "no *white* men"', QUOTED),
    # Names.
    ("gender", "a book by Stephen *King* on a table", NAME),
    ("gender", "a statue of the *Prince* of Wales", NAME),
    ("gender", "a photo of Dr. *King* at a desk", NAME),
    ("gender", "*King* Charles waves", NAME),
    ("gender", "the castle. *Queen* Elizabeth waves", NAME),
    ("gender", "a poster of Iron *Man* on a wall", NAME),
    ("gender", "a shop called The *Gentleman* in town", NAME),
    ("gender", "a picture of J. *Prince* at home", NAME),
    ("gender", "a bridge in *Queens* at night", NAME),
    # Other senses, told by the word after.
    ("gender", "the *chairman* of the board", OTHER),
    ("gender", "a *king* size bed", OTHER),
    ("gender", "a *king*-size bed", OTHER),
    ("gender", "a *queen* bed in a room", OTHER),
    ("gender", "a plate of *king* crab", OTHER),
    ("gender", "a *queen* bee on a flower", OTHER),
    ("gender", "the *prince* of darkness", OTHER),
    ("gender", "a *male* connector on a cable", OTHER),
    ("gender", "the *female* plug", OTHER),
    ("gender", "a *male* lion lies in the grass", OTHER),
    ("gender", "the *mother* board of a computer", OTHER),
    ("gender", "a *mother* elephant", OTHER),
    ("gender", "*mother* nature at work", OTHER),
    ("gender", "a *brother* printer on a desk", OTHER),
    ("gender", "a pair of *cowboy* boots", OTHER),
    ("gender", "a dog in a *cowboy* hat", OTHER),
    ("gender", "a *princess* cake", OTHER),
    ("gender", "a *guy* wire of a mast", OTHER),
    ("gender", "a *lady* bug on a leaf", OTHER),
    ("gender", "her *sister* ship in the harbor", OTHER),
    ("gender", "a *man* made lake", OTHER),
    ("gender", "a *man*-made lake", OTHER),
    ("gender", "a *grandfather* clock", OTHER),
    ("gender", "a *boy*-girl party", OTHER),
    # Told by the word before.
    ("gender", "a gingerbread *man* on a plate", OTHER),
    ("gender", "what you *guys* eat", OTHER),
    ("gender", "a bag from burger *king*", OTHER),
    ("gender", "a brush to *groom* a dog", OTHER),
    ("age", "a two year *old* boy", OTHER),
    # Told by a person that is not there.
    ("race", "a *black* dog", OTHER),
    ("race", "a man in a *white* shirt", OTHER),
    ("race", "a *black* and white photo", OTHER),
    ("race", "black and *white* photo", OTHER),
    ("race", "a woman in *black*.", OTHER),
    ("race", "an *asian* restaurant", OTHER),
    ("race", "an *African* elephant", OTHER),
    ("race", "*Indian* food on a plate", OTHER),
    ("race", "the *White* House", OTHER),
    ("race", "a *white*-haired woman", OTHER),
    ("age", "the *old* car", OTHER),
    ("age", "a *young* giraffe", OTHER),
    ("age", "an *older* model of phone", OTHER),
    ("age", "a *senior* officer", OTHER),
    ("age", "an *old* friend of hers", OTHER),
    ("gender", "a game of *king* of the hill", OTHER),
    # Not the word at all: it goes on.
    ("gender", "a *king*dom", WORD),
    ("gender", "a *man*go", WORD),
    # What the guards get wrong, kept so that the rates are honest.
    ("gender", "a book by stephen *king*", NAME),  # no capital tells it
    ("gender", "a sign that says 'the *man*'", QUOTED),  # an apostrophe is no quotation mark
    ("gender", 'a 27" screen and a *man*', ""),  # inches open a quotation
    ("gender", "A *Man* Riding A Horse", ""),  # a headline is all names
    ("race", "a man who is *black*.", ""),  # the person comes before
    ("race", "the boss, a *black* skateboarder", ""),
    ("age", "the man is *old*.", ""),
]
SLIPS = {  # moved although they mean something else: damage
    "a book by stephen *king*",
    "a sign that says 'the *man*'",
}
MISSES = {  # left alone although they speak of a person
    'a 27" screen and a *man*',
    "A *Man* Riding A Horse",
    "a man who is *black*.",
    "the man is *old*.",
}
# What a word-level tokenizer writes in one piece and Gemma's in several, so that it cannot be waited for.
MISSES_IN_PIECES = {"the boss, a *black* skateboarder"}


def parts(sentence: str) -> tuple[str, str, str]:
    before, word, after = re.fullmatch(r"([^*]*)\*([^*]+)\*([^*]*)", sentence).groups()
    return before, word, after


def word_level(texts: list[str]) -> PreTrainedTokenizerFast:
    """One token per word or mark, with its leading space; all the attributes' words are in it, however written."""
    split = re.compile(r"▁?[^\W\d_]+|▁?\d|▁?[^\w]")
    attributes = ATTRIBUTES.values()
    words = {
        w for a in attributes for listed in (*a.steering_words.values(), *a.neutral_forms.values()) for w in listed
    }
    words |= {w for a in attributes for g in a.guards for w in (*g.before, *g.after, *g.needs_after)}
    spelt = [space + case for w in words for case in (w, w.capitalize(), w.upper()) for space in ("", " ")]
    pieces = dict.fromkeys(piece for text in (*texts, *spelt) for piece in split.findall(text.replace(" ", "▁")))
    vocab = {piece: i for i, piece in enumerate(("<unk>", "</s>", "▁", *pieces))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(split.pattern), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


class Watched:
    """A tokenizer with every attribute's weights and guards."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        self.weights = {name: weights_from_words(attribute, tokenizer) for name, attribute in ATTRIBUTES.items()}
        self.tables = {
            name: guard_tables(self.weights[name], attribute, tokenizer) for name, attribute in ATTRIBUTES.items()
        }

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def reason(self, attribute: str, sentence: str, *, foreseen: bool = True) -> str:
        """What the guards say of the starred word, drafted after all that is before it."""
        before, word, after = parts(sentence)
        through, upcoming = self.encode(before + word), self.encode(after)
        written, weights = torch.tensor([through[:-1]], dtype=torch.long), self.weights[attribute]
        column = weights.token_ids.tolist().index(through[-1])
        entry = weights.entry[weights.states(written), column].long()
        assert weights.words[int(entry)] == word.lower()
        after_it = torch.tensor([upcoming[0] if upcoming else self.tokenizer.eos_token_id])
        tables = self.tables[attribute]
        code = int(blocked(tables, weights, written, entry, after_it if foreseen else None))
        assert GuardReader(tables).code(written[0].tolist(), int(entry), int(after_it) if foreseen else None) == code
        return REASONS[code]


@pytest.fixture(scope="module")
def plain() -> Watched:
    return Watched(word_level([part for _, sentence, _ in SENTENCES for part in parts(sentence)]))


@pytest.fixture(scope="module")
def gemma() -> Watched:
    transformers = pytest.importorskip("transformers")
    cache = Path(os.environ.get("EVENHAND_CACHE", Path.home() / ".cache" / "evenhand"))
    folders = sorted(folder.parent for folder in cache.glob("gemma-3-270m-*/tokenizer.json"))
    if not folders:
        pytest.skip("Gemma's tokenizer is not in EVENHAND_CACHE")
    return Watched(transformers.AutoTokenizer.from_pretrained(folders[0]))


# Sentences ------------------------------------------------------------------------------------------


def decisions(watched: Watched, *, foreseen: bool = True) -> tuple[set[str], set[str], float, float]:
    """The sentences decided wrongly, as damage and as misses, and both as rates."""
    said = {sentence: watched.reason(a, sentence, foreseen=foreseen) for a, sentence, _ in SENTENCES}
    person = {sentence for _, sentence, right in SENTENCES if not right}
    damaged = {sentence for sentence in said if sentence not in person and not said[sentence]}
    missed = {sentence for sentence in person if said[sentence]}
    return damaged, missed, len(damaged) / (len(said) - len(person)), len(missed) / len(person)


def test_there_are_enough_sentences_of_both_kinds():
    assert len({sentence for _, sentence, _ in SENTENCES}) == len(SENTENCES) == 100
    assert sum(not right for _, _, right in SENTENCES) == 36


def test_every_sentence_is_decided_as_written_down(plain):
    wrong = {
        sentence: (got, right)
        for attribute, sentence, right in SENTENCES
        if sentence not in SLIPS | MISSES and (got := plain.reason(attribute, sentence)) != right
    }
    assert wrong == {}


def test_damage_and_misses_are_the_known_ones(plain):
    damaged, missed, damage, miss = decisions(plain)
    assert damaged == SLIPS
    assert missed == MISSES
    assert damage == pytest.approx(2 / 64)
    assert miss == pytest.approx(4 / 36)


@pytest.mark.slow
def test_damage_and_misses_on_gemmas_tokenizer(gemma):
    damaged, missed, _, _ = decisions(gemma)
    assert damaged == SLIPS
    assert missed == MISSES | MISSES_IN_PIECES
    assert set(gemma.tables["race"].left_out) == {"skateboarder"}


def test_without_the_next_word_colours_are_left_alone_and_the_rest_is_not_seen(plain):
    assert plain.reason("race", "a *black* man on a bench", foreseen=False) == "sense not known"
    assert plain.reason("race", "a *black* dog", foreseen=False) == "sense not known"
    assert plain.reason("race", "a group of *asians*", foreseen=False) == ""
    assert plain.reason("gender", "a *king* size bed", foreseen=False) == ""
    assert plain.reason("gender", "a gingerbread *man* on a plate", foreseen=False) == OTHER
    assert plain.reason("gender", "a book by Stephen *King* on a table", foreseen=False) == NAME
    damaged, missed, _, _ = decisions(plain, foreseen=False)
    told_by_the_next_word = {s for _, s, right in SENTENCES if right in (OTHER, NAME, WORD)}
    assert SLIPS <= damaged <= SLIPS | told_by_the_next_word
    assert (len(damaged), len(missed)) == (32, 15)  # as the documentation says
    needs_a_person = {s for a, s, right in SENTENCES if not right and a != "gender"}
    assert MISSES - needs_a_person <= missed <= MISSES | needs_a_person


# By hand --------------------------------------------------------------------------------------------

# Ids:      0       1      2     3       4        5      6      7    8     9       10      11      12      13    14
PIECES = ["</s>", "▁the", "▁ma", "n", "▁King", "▁king", "▁Dr", ".", '"', "▁size", "▁big", "king", "▁Foo", "-", "dom"]
HANDMADE = TokenWeights(  # " king", " King", and " ma" + "n"
    attribute="hand",
    groups=("a", "b"),
    token_ids=torch.tensor([3, 4, 5]),
    group=torch.tensor([[-1, 0, 0], [-1, 0, 0], [1, 0, 0]], dtype=torch.int8),
    weight=torch.tensor([[0.0, 1, 1], [0, 1, 1], [1, 1, 1]]),
    entry=torch.tensor([[-1, 1, 0], [-1, 1, 0], [2, 1, 0]], dtype=torch.int16),
    neutral_forms=torch.full((3, 1), -1, dtype=torch.int16),
    counterparts=torch.full((3, 2), -1, dtype=torch.int16),
    spelling=torch.tensor([0, 1, 0], dtype=torch.int8),
    words=("king", "king", "man"),
    keys=torch.tensor([2]),  # state 0, token 2 ...
    nexts=torch.tensor([2]),  # ... leads to state 2
    depth=1,
    tokenizer="",
    left_out=(),
)
KING, TITLED, MAN = 0, 1, 2


def hand_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(PIECES)}, unk_token="</s>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="</s>", eos_token="</s>")


def handmade(*guards: Guard) -> GuardTables:
    words = {"a": ("king",), "b": ("man",)}
    attribute = Attribute("hand", ("a", "b"), (0.5, 0.5), words, words, (), {}, {}, "test", guards)
    return guard_tables(HANDMADE, attribute, hand_tokenizer())


def code(tables, written, entry, upcoming=None) -> str:
    ids = torch.tensor([written], dtype=torch.long)
    after = None if upcoming is None else torch.tensor([upcoming])
    found = int(blocked(tables, HANDMADE, ids, torch.tensor([entry]), after))
    if entry >= 0:
        assert GuardReader(tables).code(ids[0].tolist(), entry, upcoming) == found
    return REASONS[found]


def test_reasons_begin_with_none():
    assert REASONS[0] == ""
    assert len(set(REASONS)) == len(REASONS)


@pytest.mark.parametrize(
    ("written", "entry", "upcoming", "reason"),
    [
        ([], KING, 1, ""),
        ([1], KING, 1, ""),
        ([1], TITLED, 1, NAME),  # the King
        ([], TITLED, 1, ""),  # it begins the text
        ([1, 7], TITLED, 1, ""),  # the. King
        ([6, 7], TITLED, 1, NAME),  # Dr. King
        ([1, 6, 7], TITLED, 1, NAME),
        ([1, 7], TITLED, 12, NAME),  # the. King Foo
        ([1, 7], KING, 12, ""),  # king Foo
        ([8], KING, 1, QUOTED),
        ([8, 1, 8], KING, 1, ""),
        ([8, 1, 8, 8], KING, 1, QUOTED),
        ([8, 1], TITLED, 1, QUOTED),  # quoted comes before name
        ([1, 7, 8], TITLED, 1, QUOTED),
        ([8, 1, 7, 8], TITLED, 1, ""),  # "the." King
        ([8, 1, 8], TITLED, 1, NAME),  # "the" King
        ([1], KING, 9, OTHER),  # king size
        ([1], KING, 13, OTHER),  # king-
        ([1], KING, 14, WORD),  # kingdom
        ([1], KING, 7, ""),
        ([10], KING, 1, OTHER),  # big king
        ([10, 1], KING, 1, ""),
        ([10], KING, None, OTHER),
        ([1], KING, None, ""),
        ([1], KING, -1, ""),
        ([1, 2], MAN, 9, OTHER),  # man size, its first piece written
        ([10, 2], MAN, 1, OTHER),  # big man: the word before is before its first piece
        ([1, 2], MAN, 1, ""),
        ([2], MAN, 1, ""),
        ([8, 2], MAN, 1, QUOTED),
        ([8, 10], -1, 9, ""),  # nothing drafted
    ],
)
def test_decisions_by_hand(written, entry, upcoming, reason):
    guards = [Guard(word, before=("big",), after=("size",)) for word in ("king", "man")]
    assert code(handmade(*guards), written, entry, upcoming) == reason


@pytest.mark.parametrize(
    ("upcoming", "reason"),
    [
        (9, ""),
        (1, OTHER),
        (13, OTHER),
        (7, OTHER),
        (0, OTHER),
        (14, WORD),
        (-1, "sense not known"),
        (10**6, "sense not known"),
    ],
)
def test_a_word_that_needs_the_next_one(upcoming, reason):
    tables = handmade(Guard("king", needs_after=("size",)))
    assert code(tables, [1], KING, upcoming) == reason
    assert code(tables, [1], TITLED, upcoming) == reason  # no name: what follows tells
    assert code(tables, [1], KING, None) == "sense not known"
    assert code(tables, [8], KING, None) == QUOTED
    assert code(tables, [1], -1, upcoming) == ""


def test_rows_do_not_touch_each_other_and_may_be_reordered():
    tables = handmade(Guard("king", before=("big",), after=("size",)))
    written = torch.tensor([[1, 1, 10], [8, 1, 1], [1, 6, 7], [1, 1, 1], [1, 1, 2]])
    entries, upcoming = torch.tensor([KING, KING, TITLED, -1, MAN]), torch.tensor([1, 1, 1, 9, 1])
    together = blocked(tables, HANDMADE, written, entries, upcoming)
    assert [REASONS[i] for i in together.tolist()] == [OTHER, QUOTED, NAME, "", ""]
    order = torch.tensor([4, 2, 0, 3, 1])
    assert (
        blocked(tables, HANDMADE, written[order], entries[order], upcoming[order]).tolist() == together[order].tolist()
    )
    for row in range(5):
        one = slice(row, row + 1)
        assert blocked(tables, HANDMADE, written[one], entries[one], upcoming[one]).tolist() == [int(together[row])]


def test_nothing_is_modified_and_ids_beyond_the_vocabulary_are_harmless():
    tables = handmade(Guard("king", after=("size",)))
    written, entries, upcoming = torch.tensor([[1, 10**6]]), torch.tensor([KING]), torch.tensor([10**6])
    assert blocked(tables, HANDMADE, written, entries, upcoming).tolist() == [0]
    assert (written.tolist(), entries.tolist(), upcoming.tolist()) == ([[1, 10**6]], [KING], [10**6])


def test_words_that_cannot_be_told_are_listed():
    assert handmade(Guard("king", before=("unheard",), after=("of",))).left_out == ("unheard", "of")
    assert handmade(Guard("king", before=("big",), after=("size",))).left_out == ()


def test_guards_of_another_attribute_are_refused():
    with pytest.raises(BadInputError, match="the token weights are of 'hand', the guards of 'gender'"):
        guard_tables(HANDMADE, ATTRIBUTES["gender"], hand_tokenizer())


# Cost -----------------------------------------------------------------------------------------------


class Counted(TorchDispatchMode):
    """Counts the operations that would be launched on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += 1
        return func(*args, **(kwargs or {}))


def operations(watched: Watched, rows: int, length: int, upcoming: bool) -> int:
    written, entries = torch.ones(rows, length, dtype=torch.long), torch.zeros(rows, dtype=torch.long)
    with Counted() as counted:
        blocked(watched.tables["gender"], watched.weights["gender"], written, entries, entries if upcoming else None)
    return counted.operations


def test_the_number_of_operations_is_fixed(plain):
    for upcoming in (False, True):
        counts = {operations(plain, rows, length, upcoming) for rows in (1, 64) for length in (8, 500)}
        assert len(counts) == 1
        assert counts.pop() <= 20


def test_no_tensor_is_read_by_the_host(plain):
    # Fake tensors have no values: reading one (`bool`, `item`, `nonzero`) raises.
    tables, weights = plain.tables["gender"], plain.weights["gender"]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        faked = mode.from_tensor
        written, entries = faked(torch.ones(3, 9, dtype=torch.long)), faked(torch.zeros(3, dtype=torch.long))
        for upcoming in (None, entries):
            assert blocked(tables, weights, written, entries, upcoming).shape == (3,)
        with pytest.raises(DataDependentOutputException):
            bool(entries.any())


# Pieces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        *[('"', QUOTE), (' "', QUOTE), ('""', 0), ("“", QUOTE), ("”", QUOTE), ("'", 0), ('."', QUOTE | SENTENCE_END)],
        *[(".", SENTENCE_END), ("!", SENTENCE_END), ("?)", SENTENCE_END), ("\n\n", SENTENCE_END), (",", 0)],
        *[("*", SENTENCE_END), (" **", SENTENCE_END), ("", SENTENCE_END), (" -", 0), ("-", HYPHEN), ("-size", HYPHEN)],
        *[(" Mr.", WORD_START), (" end.", WORD_START | SENTENCE_END), (" ", 0), ("3", 0), (" 3", 0)],
        *[(" man", WORD_START), (" Man", WORD_START | TITLE), (" MAN", WORD_START), (" I", WORD_START)],
        *[("man", CONTINUES), ("Man", CONTINUES), (" McX", WORD_START), ("dom.", CONTINUES | SENTENCE_END)],
    ],
)
def test_what_a_piece_does(text, flags):
    known = QUOTE | SENTENCE_END | WORD_START | TITLE | CONTINUES | HYPHEN
    assert int(piece_flags([text], hand_tokenizer())[0]) & known == flags


def test_texts_of_pieces_keep_their_leading_space():
    texts = piece_texts(hand_tokenizer())
    assert texts == ["", *(piece.replace("▁", " ") for piece in PIECES[1:])]


def test_texts_of_pieces_where_the_decoder_drops_the_first_space():
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(["</s>", "▁a", "▁man", "man"])}))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    assert tokenizer.decode([2]) == "man"
    assert piece_texts(tokenizer) == ["", " a", " man", "man"]


def test_typographic_quotes_of_several_bytes():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    flags = piece_flags(piece_texts(tokenizer), tokenizer)
    ids = tokenizer.encode("a “he” and “she")
    assert len(ids) == 12 + 3 * 3  # three bytes each mark
    assert sum(int(flags[token]) & QUOTE for token in ids) == 3 * QUOTE


# The user's own words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "asked", "named"),
    [
        ("gender", "Describe the photo in detail.", []),
        ("gender", "What is the man holding?", ["male"]),
        ("gender", "Is SHE happy?", ["female"]),
        ("gender", "Choose either Male or Female as your response.", ["male", "female"]),
        ("gender", "Is the bed king size?", []),
        ("gender", "Is the bed king-size?", []),
        ("gender", "Who wears the king's crown?", ["male"]),
        ("gender", "Is the woman near the king size bed?", ["female"]),
        ("gender", "Is there a male lion?", []),
        ("gender", "What does the person in this image do?", []),
        ("race", "What does the black man do?", ["black"]),
        ("race", "Options: White, Black, Middle Eastern.", ["white", "black", "middle eastern"]),
        ("race", "Is she in the middle?", []),
        ("race", "Is this African food?", []),
        ("age", "Is the old man young?", ["young", "old"]),
        ("age", "What do the children do?", ["young"]),
        ("toxicity", "Do not include toxic text.", []),  # it has no words that could be the user's own
        ("gender", "", []),
    ],
)
def test_groups_named_by_the_question(attribute, asked, named):
    declared = load_attribute(attribute)
    found = exempt_groups([asked], declared)
    assert [group for group, exempt in zip(declared.groups, found[0].tolist(), strict=True) if exempt] == named


def test_one_row_per_question():
    found = exempt_groups(["a man", "", "her"], ATTRIBUTES["gender"])
    assert found.tolist() == [[True, False], [False, False], [False, True]]
    assert exempt_groups([], ATTRIBUTES["race"]).shape == (0, 6)
