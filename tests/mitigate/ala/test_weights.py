"""Word lists mapped onto real tokenizers built here, and what a weights file must be to be read."""

# ruff: noqa: S106  (special tokens are not passwords)

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evenhand.attributes import load_attribute
from evenhand.errors import ArtefactError, BadInputError, TokenizerMismatchError
from evenhand.mitigate.ala.weights import (
    TokenWeights,
    load_weights,
    save_weights,
    tokenizer_hash,
    weights_from_words,
)
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
    counterparts={"man": "woman", "woman": "man"},
    source="test",
)
SIGNS = {"man": 1.0, "he": 1.0, "woman": -1.0, "she": -1.0, "person": 0.0, "they": 0.0, "adult": 0.0}
# Everything but the police is learnt as one token, each way it can be written.
TEXTS = [
    text for word in SIGNS for text in (f" {word}", f" {word.capitalize()}", f" {word.upper()}", word.capitalize())
]


def trained(kind: str) -> PreTrainedTokenizerFast:
    """A BPE whose merges are learnt from ``TEXTS``: one token each, and letters for the rest."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    letters = list("▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.")
    if kind == "bytelevel":  # as GPT-2
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "gemma":  # spaces become ▁ and nothing is put in front
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=▁)"), "isolated")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    else:  # as Llama's: every text begins with ▁
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<unk>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def whole_words(*words: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(("<unk>", *words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="module", params=["bytelevel", "gemma", "metaspace"])
def tokenizer(request) -> PreTrainedTokenizerFast:
    return trained(request.param)


@pytest.fixture(scope="module")
def weights(tokenizer) -> TokenWeights:
    return weights_from_words(GENDER, tokenizer)


def only_id(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    (token,) = tokenizer.encode(text, add_special_tokens=False)
    return token


# --- words to tokens -----------------------------------------------------------------------------------------


def test_every_spelling_shares_its_words_direction(tokenizer, weights):
    direction = dict(zip(weights.token_ids.tolist(), weights.direction.tolist(), strict=True))
    expected = {only_id(tokenizer, text): SIGNS[text.strip().lower()] for text in TEXTS}
    assert direction == expected  # each of them, and nothing else


def test_ids_are_ascending_and_unique(weights):
    ids = weights.token_ids.tolist()
    assert ids == sorted(set(ids))


def test_neutral_forms_keep_the_spelling(tokenizer, weights):
    index = {token: i for i, token in enumerate(weights.token_ids.tolist())}

    def forms(text: str) -> set[int]:
        row = weights.neutral_forms[index[only_id(tokenizer, text)]]
        return set(weights.token_ids[row].tolist())

    assert forms(" woman") == {only_id(tokenizer, " person"), only_id(tokenizer, " adult")}
    assert forms(" Man") == {only_id(tokenizer, " Person"), only_id(tokenizer, " Adult")}
    assert forms(" SHE") == {only_id(tokenizer, " THEY")}
    assert forms("He") == {only_id(tokenizer, "They")}
    assert forms(" person") == set()


def test_words_in_pieces_are_left_out_and_listed(tokenizer, weights):
    assert weights.left_out == ("policeman", "policewoman")
    pieces = tokenizer.encode(" policewoman", add_special_tokens=False)
    assert len(pieces) > 1
    assert not set(pieces) & set(weights.token_ids.tolist())


@pytest.mark.parametrize("kind", ["bytelevel", "gemma"])
def test_a_piece_inside_a_word_does_not_count(kind):
    # Without a space before it, a lower-case `man` continues a word: `wo` + `man`.
    tokenizer = trained(kind)
    tokenizer.add_tokens(["man"])
    bare = tokenizer.convert_tokens_to_ids("man")
    assert bare not in weights_from_words(GENDER, tokenizer).token_ids.tolist()


def test_the_unknown_token_is_no_word():
    found = weights_from_words(GENDER, whole_words("▁man", "▁woman", "▁person"))
    assert found.token_ids.tolist() == [1, 2, 3]
    assert found.direction.tolist() == [1.0, -1.0, 0.0]
    assert found.neutral_forms.tolist() == [[False, False, True], [False, False, True], [False] * 3]
    assert found.counterparts.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    assert found.left_out == ("he", "policeman", "she", "policewoman")


def test_a_groups_word_is_nobodys_neutral_form():
    odd = replace(GENDER, neutral_forms={"woman": ("man", "person"), "man": ("person",)})
    found = weights_from_words(odd, whole_words("▁man", "▁woman", "▁person"))
    assert found.neutral_forms.tolist() == [[False, False, True], [False, False, True], [False] * 3]


def test_the_shipped_attribute():
    found = weights_from_words(load_attribute("gender"), trained("bytelevel"))
    assert {"policewoman", "pregnant", "king"} <= set(found.left_out)
    assert not {"man", "woman", "he", "she"} & set(found.left_out)


def test_a_group_without_a_token_is_refused():
    with pytest.raises(BadInputError, match="'female'"):
        weights_from_words(GENDER, whole_words("▁man", "▁person"))


def test_three_groups_are_refused():
    three = replace(GENDER, groups=("male", "female", "third"))
    with pytest.raises(BadInputError, match="two groups"):
        weights_from_words(three, whole_words("▁man", "▁woman"))


# --- files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny() -> PreTrainedTokenizerFast:
    return whole_words("▁man", "▁woman", "▁person")


@pytest.fixture
def written(tiny, tmp_path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(weights_from_words(GENDER, tiny), path)
    return path


def test_round_trip(tokenizer, weights, tmp_path):
    save_weights(weights, tmp_path / "w.safetensors")
    back = load_weights(tmp_path / "w.safetensors", tokenizer)
    for name in ("token_ids", "direction", "neutral_forms", "counterparts"):
        assert torch.equal(getattr(back, name), getattr(weights, name))
    assert (back.attribute, back.tokenizer, back.left_out) == ("gender", weights.tokenizer, weights.left_out)


def test_another_tokenizer_is_refused(written):
    with pytest.raises(TokenizerMismatchError, match="made for"):
        load_weights(written, whole_words("▁woman", "▁man", "▁person"))


def test_the_hash_covers_added_tokens(tiny):
    before = tokenizer_hash(tiny)
    tiny.add_tokens(["<image>"])
    assert tokenizer_hash(tiny) != before


GOOD = {
    "token_ids": torch.tensor([1, 2, 3]),
    "direction": torch.tensor([1.0, -1.0, 0.0]),
    "neutral_forms": torch.zeros(3, 3, dtype=torch.uint8),
    "counterparts": torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.uint8),
}
NONE = {
    "token_ids": torch.empty(0, dtype=torch.int64),
    "direction": torch.empty(0),
    "neutral_forms": torch.empty(0, 0, dtype=torch.uint8),
    "counterparts": torch.empty(0, 0, dtype=torch.uint8),
}
METADATA = {"format": "evenhand-token-weights-1", "attribute": "gender", "left_out": "[]"}
WRONG_TENSORS = {
    "NaN": {"direction": torch.tensor([1.0, float("nan"), 0.0])},
    "infinity": {"direction": torch.tensor([1.0, float("-inf"), 0.0])},
    "over one": {"direction": torch.tensor([1.0, -1.01, 0.0])},
    "whole-number directions": {"direction": torch.tensor([1, -1, 0])},
    "unsorted": {"token_ids": torch.tensor([1, 3, 2])},
    "twice": {"token_ids": torch.tensor([1, 2, 2])},
    "negative": {"token_ids": torch.tensor([-1, 2, 3])},
    "ids not whole": {"token_ids": torch.tensor([1.0, 2.0, 3.0])},
    "too short": {"direction": torch.tensor([1.0, -1.0])},
    "a group's word as its own counterpart": {
        "counterparts": torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.uint8)
    },
    "forms not square": {"neutral_forms": torch.zeros(3, 2, dtype=torch.uint8)},
    "a group's word as a form": {"neutral_forms": torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.uint8)},
    "no tokens": NONE,
    "another tensor": {"more": torch.zeros(1)},
}
WRONG_METADATA = {
    "another format": {"format": "evenhand-token-weights-2"},
    "left_out is not JSON": {"left_out": "[policewoman"},
    "left_out is not a list of words": {"left_out": '{"a": 1}'},
}


def rewrite(path: Path, tokenizer: PreTrainedTokenizerFast, tensors=None, metadata=None) -> None:
    owner = {"tokenizer": tokenizer_hash(tokenizer)}
    save_file({**GOOD, **(tensors or {})}, path, metadata={**METADATA, **owner, **(metadata or {})})


def test_the_file_the_wrong_ones_differ_from_is_read(tiny, written):
    rewrite(written, tiny)
    assert load_weights(written, tiny).direction.tolist() == [1.0, -1.0, 0.0]


@pytest.mark.parametrize("what", WRONG_TENSORS)
def test_wrong_tensors_are_refused(what, tiny, written):
    rewrite(written, tiny, tensors=WRONG_TENSORS[what])
    with pytest.raises(ArtefactError):
        load_weights(written, tiny)


@pytest.mark.parametrize("what", WRONG_METADATA)
def test_wrong_metadata_is_refused(what, tiny, written):
    rewrite(written, tiny, metadata=WRONG_METADATA[what])
    with pytest.raises(ArtefactError):
        load_weights(written, tiny)


def test_a_file_without_metadata_is_refused(tiny, written):
    save_file(GOOD, written)
    with pytest.raises(ArtefactError, match="format None"):
        load_weights(written, tiny)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(writer, tiny, tmp_path):
    path, mark = tmp_path / "weights.safetensors", tmp_path / "ran"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save(Payload(mark), path)
    with pytest.raises(ArtefactError, match=r"weights\.safetensors"):
        load_weights(path, tiny)
    assert not mark.exists()


def entry(end: int) -> bytes:
    header = json.dumps({"token_ids": {"dtype": "I64", "shape": [end // 8], "data_offsets": [0, end]}}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345",
        (200 * 2**20).to_bytes(8, "little") + b"{}",  # a header of 200 MB is claimed
        (2**63).to_bytes(8, "little") + b"{}",
        entry(200 * 2**20),  # tensors of 200 MB are claimed
    ],
)
def test_false_claims_are_refused(content, tiny, written):
    written.write_bytes(content)
    with pytest.raises(ArtefactError):
        load_weights(written, tiny)


def test_a_missing_file_and_a_folder_are_refused(tiny, tmp_path):
    for path in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(ArtefactError):
            load_weights(path, tiny)
