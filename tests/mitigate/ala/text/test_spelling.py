"""What tokens spell: joined bytes are the decoded text, and words are runs of letters."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from evenhand.mitigate.ala.text.spelling import runs, spelled, words_of
from evenhand.models.decode import text_of


def test_words_by_hand():
    assert words_of("The 2 MEN—one café's owner, O'Neil.") == ["the", "men", "one", "café", "s", "owner", "o", "neil"]
    assert words_of("") == []
    assert words_of("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]  # vowel marks belong to the word


def test_runs_are_the_whole_text():
    text = "  A man, 3 women!"
    assert "".join(run for run, _ in runs(text)) == text.lower()


@pytest.mark.parametrize(
    "text", ["A man in a suit.", " the policewoman's café — naïve", "He SAID: 3 heroines\nmet (her)", "日本 🙂 ok"]
)
def test_joined_bytes_are_the_decoded_text(tokenizer: PreTrainedTokenizerFast, text: str):
    pieces = spelled(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False)
    joined = b"".join(pieces[i] for i in ids).decode("utf-8")
    assert joined.strip() == text_of(tokenizer, ids).strip()


def test_joined_bytes_of_any_ids_have_the_words_of_their_text(tokenizer: PreTrainedTokenizerFast):
    # Ids in any order; those of single bytes are left out, because decoding replaces broken characters.
    pieces = spelled(tokenizer)
    whole = [i for i, piece in enumerate(pieces) if "\ufffd" not in piece.decode("utf-8", "replace")]
    random = torch.Generator().manual_seed(0)
    for _ in range(200):
        ids = [whole[i] for i in torch.randint(len(whole), (9,), generator=random).tolist()]
        joined = b"".join(pieces[i] for i in ids).decode("utf-8", "surrogateescape")
        assert words_of(joined) == words_of(text_of(tokenizer, ids))


def test_special_tokens_spell_nothing(tokenizer: PreTrainedTokenizerFast):
    pieces = spelled(tokenizer)
    assert all(pieces[i] == b"" for i in tokenizer.all_special_ids)
