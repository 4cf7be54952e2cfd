"""States of a text worked out by hand, and what a weights file must be to be read."""

# ruff: noqa: S106  (special tokens are not passwords)

import json
import os
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evenhand.errors import ArtefactError, BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.weights import (
    TokenWeights,
    check_tokenizer,
    load_weights,
    save_weights,
    tokenizer_hash,
)


def whole_words(*words: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(("<unk>", *words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


TINY = whole_words("▁man", "▁woman", "▁person", "▁police", "woman", "man", "▁a", "▁chief", "ess", "Man")
MAN, WOMAN, PERSON, POLICE, TAIL, TAIL_MAN, A, CHIEF, ESS, BARE = range(1, 11)
INNER = 2**32


def example() -> TokenWeights:
    """` police` + `man` or `woman` (state 2), ` chief` + `woman` + `ess` (states 3, 4); `Man` at the start alone."""
    #            man woman person woman man ess Man     (1, 2, 3, 5, 6, 9, 10)
    inside = [0, 1, -1, -1, -1, -1, -1]
    entry = torch.tensor(
        [
            inside,
            [0, 1, -1, -1, -1, -1, 5],
            [0, 1, -1, 2, 3, -1, -1],
            inside,
            [0, 1, -1, -1, -1, 4, -1],
        ],
        dtype=torch.int16,
    )
    of_entry = torch.tensor([0, 1, 1, 0, 1, 0, -1], dtype=torch.int8)
    weight = torch.tensor([1.0, 0.5, 0.5, 1.0, 0.25, 1.0, 0.0])
    return TokenWeights(
        attribute="gender",
        groups=("male", "female"),
        token_ids=torch.tensor([MAN, WOMAN, PERSON, TAIL, TAIL_MAN, ESS, BARE]),
        group=of_entry[entry.long()],
        weight=weight[entry.long()],
        entry=entry,
        neutral_forms=torch.tensor([[2], [2], [-1], [-1], [-1], [-1]], dtype=torch.int16),
        counterparts=torch.tensor([[-1, 1], [0, -1], [4, -1], [-1, 3], [-1, -1], [-1, -1]], dtype=torch.int16),
        spelling=torch.tensor([0, 0, 0, 0, 0, 3], dtype=torch.int8),
        words=("man", "woman", "policewoman", "policeman", "chiefwomaness", "man"),
        keys=torch.tensor([POLICE, CHIEF, 3 * INNER + TAIL]),
        nexts=torch.tensor([2, 3, 4]),
        depth=2,
        tokenizer=tokenizer_hash(TINY),
        left_out=("king",),
    )


# --- states ------------------------------------------------------------------------------------------------------

TEXTS = [
    ([], 1),
    ([A], 0),
    ([MAN], 0),
    ([POLICE], 2),
    ([A, POLICE], 2),
    ([POLICE, TAIL], 0),
    ([CHIEF], 3),
    ([CHIEF, TAIL], 4),
    ([CHIEF, TAIL, ESS], 0),
    ([CHIEF, CHIEF, TAIL], 4),
    ([CHIEF, POLICE], 2),
    ([POLICE, CHIEF, TAIL], 4),
    ([TAIL], 0),
    ([A, TAIL], 0),
    ([A, A, A, CHIEF, TAIL], 4),
    ([CHIEF, TAIL, A], 0),
    ([99999], 0),
]


@pytest.mark.parametrize(("text", "state"), TEXTS)
def test_states_by_hand(text, state):
    assert example().states(torch.tensor([text], dtype=torch.long)).tolist() == [state]


def test_rows_do_not_touch_each_other():
    texts = torch.tensor([text for text, _ in TEXTS if len(text) == 2])
    assert example().states(texts).tolist() == [state for text, state in TEXTS if len(text) == 2]


def test_narrow_ids_do_not_overflow():
    assert example().states(torch.tensor([[CHIEF, TAIL]], dtype=torch.int32)).tolist() == [4]


@given(st.lists(st.integers(0, 11), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_walk_from_the_beginning_gives_the_same_state(text):
    # The automaton, one token at a time: lead on from here, else begin anew, else be inside no word.
    weights = example()
    steps = dict(zip(weights.keys.tolist(), weights.nexts.tolist(), strict=True))
    state = 1
    for token in text:
        state = steps.get(state * INNER + token, steps.get(token, 0))
    assert weights.states(torch.tensor([text], dtype=torch.long)).tolist() == [state]


@given(st.lists(st.integers(0, 11), min_size=2, max_size=2), st.lists(st.integers(0, 11), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_only_the_last_ids_matter(tail, head):
    weights = example()
    texts = [torch.tensor([[*before, *tail]]) for before in (head, [A])]
    assert torch.equal(weights.states(texts[0]), weights.states(texts[1]))


def test_a_word_that_begins_the_text():
    keys, nexts = torch.tensor([POLICE, CHIEF, INNER + BARE, 3 * INNER + TAIL]), torch.tensor([2, 3, 5, 4])
    first = replace(example(), keys=keys, nexts=nexts)
    for text, state in (([BARE], 5), ([BARE, TAIL], 0), ([A, BARE], 0), ([A, A, BARE], 0), ([BARE, POLICE], 2)):
        assert first.states(torch.tensor([text])).tolist() == [state]


def test_words_of_one_token_need_no_paths():
    none = torch.empty(0, dtype=torch.long)
    flat = replace(example(), keys=none, nexts=none, depth=0)
    assert flat.states(torch.tensor([[A, POLICE], [POLICE, A]])).tolist() == [0, 0]
    assert flat.states(torch.empty(3, 0, dtype=torch.long)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_states_never_read_a_tensors_value(length):
    # A meta tensor has no values: whatever would wait for a device fails on it.
    meta = torch.device("meta")
    found = example().to(meta).states(torch.zeros(4, length, dtype=torch.long, device=meta))
    assert (found.shape, found.device.type) == ((4,), "meta")


# --- direction ---------------------------------------------------------------------------------------------------


def test_direction_by_hand():
    assert example().direction.tolist() == [
        [1.0, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, -0.5, 0.0, 0.0, 0.0, 0.0, 1.0],
        [1.0, -0.5, 0.0, -0.5, 1.0, 0.0, 0.0],
        [1.0, -0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
        [1.0, -0.5, 0.0, 0.0, 0.0, -0.25, 0.0],
    ]


def test_three_groups_have_no_direction():
    three = replace(example(), groups=("male", "female", "third"))
    with pytest.raises(BadInputError, match="3 in 'gender'"):
        _ = three.direction


# --- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(example(), path)
    return path


def test_round_trip(written):
    back, weights = load_weights(written, TINY), example()
    for field in fields(TokenWeights):
        one, other = getattr(back, field.name), getattr(weights, field.name)
        if isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
        else:
            assert one == other


def test_another_tokenizer_is_refused(written):
    with pytest.raises(TokenizerMismatchError, match="made for"):
        load_weights(written, whole_words("▁woman", "▁man", "▁person"))
    assert check_tokenizer(example(), TINY).attribute == "gender"


def test_the_hash_covers_added_tokens():
    tokenizer = whole_words("▁man")
    before = tokenizer_hash(tokenizer)
    tokenizer.add_tokens(["<image>"])
    assert tokenizer_hash(tokenizer) != before


def changed(field: str, index: tuple[int, ...] | int, value: float) -> TokenWeights:
    tensor = getattr(example(), field).clone()
    tensor[index] = value
    return replace(example(), **{field: tensor})


NONE = torch.empty(0, dtype=torch.long)
WRONG = {
    "NaN": changed("weight", (0, 0), float("nan")),
    "infinity": changed("weight", (0, 0), float("inf")),
    "over one": changed("weight", (0, 0), 1.01),
    "below zero": changed("weight", (0, 0), -0.5),
    "a weight without a group": changed("weight", (0, 2), 0.5),
    "a group that is not declared": changed("group", (0, 0), 2),
    "a group below none": changed("group", (0, 2), -2),
    "a group without an entry": changed("group", (0, 2), 1),
    "an entry without a group": changed("entry", (0, 2), 1),
    "an entry that is not there": changed("entry", (0, 0), 6),
    "an inner state that forgets state 0": replace(
        example(),
        group=torch.where(torch.arange(5)[:, None] == 3, -1, example().group).to(torch.int8),
        weight=torch.where(torch.arange(5)[:, None] == 3, 0.0, example().weight),
        entry=torch.where(torch.arange(5)[:, None] == 3, -1, example().entry).to(torch.int16),
    ),
    "unsorted": changed("token_ids", 0, 7),
    "twice": changed("token_ids", 1, MAN),
    "negative": changed("token_ids", 0, -1),
    "beyond any vocabulary": changed("token_ids", 6, INNER),
    "one group": replace(example(), groups=("male",)),
    "a group twice": replace(example(), groups=("male", "male")),
    "no attribute": replace(example(), attribute=""),
    "an empty word": replace(example(), words=("", *example().words[1:])),
    "too few words": replace(example(), words=example().words[1:]),
    "an unknown spelling": changed("spelling", 0, 4),
    "a stand-in that is no column": changed("neutral_forms", (0, 0), 7),
    "a stand-in below none": changed("counterparts", (0, 0), -2),
    "a group's word as a form": changed("neutral_forms", (0, 0), 1),
    "a group's word as a form where it counts": changed("neutral_forms", (2, 0), 4),
    "a word as its own counterpart": changed("counterparts", (0, 0), 0),
    "a counterpart of its own group": changed("counterparts", (0, 1), 0),
    "something neutral for its own group": changed("counterparts", (0, 0), 2),
    "counterparts of three": replace(example(), counterparts=torch.full((6, 3), -1, dtype=torch.int16)),
    "unsorted keys": replace(example(), keys=torch.tensor([CHIEF, POLICE, 3 * INNER + TAIL])),
    "a negative key": changed("keys", 0, -1),
    "a key twice": changed("keys", 1, POLICE),
    "a state that is not there": changed("nexts", 0, 5),
    "a state reached twice": changed("nexts", 0, 3),
    "back to state 0": changed("nexts", 0, 0),
    "a circle": changed("keys", 2, 4 * INNER + TAIL),
    "a key of no state": changed("keys", 2, 9 * INNER + TAIL),
    "another depth": replace(example(), depth=3),
    "no depth": replace(example(), depth=0),
    "a negative depth": replace(example(), depth=-2),
    "no tokens": replace(
        example(), token_ids=NONE, **{name: getattr(example(), name)[:, :0] for name in ("group", "weight", "entry")}
    ),
    "one state": replace(
        example(),
        **{name: getattr(example(), name)[:1] for name in ("group", "weight", "entry")},
        keys=NONE,
        nexts=NONE,
        depth=0,
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_weights_are_refused(what, tmp_path):
    save_weights(WRONG[what], tmp_path / "w.safetensors")
    with pytest.raises(ArtefactError, match=r"w\.safetensors"):
        load_weights(tmp_path / "w.safetensors", TINY)


def rewrite(path: Path, *, tensors=None, metadata=None) -> None:
    """The written file with some of it replaced; None takes it away."""
    weights = example()
    names = ("token_ids", "group", "weight", "entry", "neutral_forms", "counterparts", "spelling", "keys", "nexts")
    good = {name: getattr(weights, name) for name in names} | (tensors or {})
    about = {
        "format": "evenhand-token-weights-2",
        "attribute": "gender",
        "tokenizer": weights.tokenizer,
        "depth": "2",
        "groups": json.dumps(weights.groups),
        "words": json.dumps(weights.words),
        "left_out": "[]",
    } | (metadata or {})
    kept = {name: text for name, text in about.items() if text is not None}
    save_file({name: tensor for name, tensor in good.items() if tensor is not None}, path, metadata=kept)


def test_the_file_the_wrong_ones_differ_from_is_read(written):
    rewrite(written)
    assert load_weights(written, TINY).left_out == ()


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": None},
        {"more": torch.zeros(1)},
        {"weight": torch.zeros(5, 7, dtype=torch.float64)},
        {"group": torch.zeros(5, 7)},
        {"token_ids": torch.arange(1.0, 8.0)},
        {"keys": torch.arange(3, dtype=torch.int32)},
        {"weight": example().weight[:, :6].contiguous()},
        {"group": example().group[0]},
        {"group": torch.tensor(0, dtype=torch.int8)},
        {"nexts": torch.tensor([2, 3])},
        {"neutral_forms": torch.zeros(6, dtype=torch.int16)},
        {"counterparts": example().counterparts[:5].contiguous()},
        {"spelling": example().spelling[:, None]},
        {"token_ids": example().token_ids[None]},
    ],
)
def test_wrong_tensors_are_refused(tensors, written):
    rewrite(written, tensors=tensors)
    with pytest.raises(ArtefactError, match="make it again"):
        load_weights(written, TINY)


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": "evenhand-token-weights-1"},
        {"left_out": "[policewoman"},
        {"left_out": '{"a": 1}'},
        {"left_out": "[" * 100_000},
        {"words": "[1, 2]"},
        {"words": None},
        {"groups": None},
        {"depth": None},
        {"depth": "two"},
        {"depth": "2.0"},
        {"depth": "9" * 5000},
        {"attribute": None},
    ],
)
def test_wrong_metadata_is_refused(metadata, written):
    rewrite(written, metadata=metadata)
    with pytest.raises(ArtefactError):
        load_weights(written, TINY)


def test_a_file_without_metadata_is_refused(written):
    save_file({"token_ids": torch.tensor([1])}, written)
    with pytest.raises(ArtefactError, match="format None"):
        load_weights(written, TINY)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(writer, tmp_path):
    path, mark = tmp_path / "weights.safetensors", tmp_path / "ran"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save(Payload(mark), path)
    with pytest.raises(ArtefactError, match=r"weights\.safetensors"):
        load_weights(path, TINY)
    assert not mark.exists()


def header(end: int) -> bytes:
    text = json.dumps({"token_ids": {"dtype": "I64", "shape": [end // 8], "data_offsets": [0, end]}}).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345",
        (200 * 2**20).to_bytes(8, "little") + b"{}",  # a header of 200 MB is claimed
        (2**63).to_bytes(8, "little") + b"{}",
        header(200 * 2**20),  # tensors of 200 MB are claimed
    ],
)
def test_false_claims_are_refused(content, written):
    written.write_bytes(content)
    with pytest.raises(ArtefactError):
        load_weights(written, TINY)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(ArtefactError):
            load_weights(path, TINY)
