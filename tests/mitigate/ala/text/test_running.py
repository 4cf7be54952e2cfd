"""Words read from ids against words read from the decoded text."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from evenhand.mitigate.ala.text.running import TokenByToken, WordReader, hash_word
from evenhand.mitigate.ala.text.spelling import spelled, words_of
from evenhand.models.decode import text_of

WORDS = {"man": [1.0, 0.0], "woman": [0.0, 2.0], "hero": [4.0, 0.0], "heroine": [0.0, 8.0], "café": [16.0, 16.0],
         "his": [32.0, 0.0], "s": [0.0, 64.0], "a": [0.5, 0.0], "policewoman": [0.0, 128.0]}  # fmt: skip


def expected(text: str) -> torch.Tensor:
    return torch.tensor([WORDS.get(word, [0.0, 0.0]) for word in words_of(text)] or [[0.0, 0.0]]).sum(dim=0)


def total(reader: WordReader, ids: torch.Tensor) -> torch.Tensor:
    read = reader.read(ids)
    return reader.given(ids, read).sum(dim=1) + reader.value(read.open)


def test_hash_by_hand():
    assert hash_word("") == 0
    assert hash_word("a") == ord("a") + 1
    base = 6364136223846793005
    assert hash_word("ab") % 2**64 == (98 * base + 99) % 2**64


def test_sentences(tokenizer: PreTrainedTokenizerFast):
    reader = WordReader.of(spelled(tokenizer), WORDS, 2)
    for text in ("A man and his café", "the woman's heroine: a HERO", "policewoman, policeman", "Man", "woman.", ". ."):
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        assert torch.equal(total(reader, ids)[0], expected(text_of(tokenizer, ids[0].tolist())))


def test_any_ids_in_any_order(tokenizer: PreTrainedTokenizerFast):
    pieces = spelled(tokenizer)
    reader = WordReader.of(pieces, WORDS, 2)
    whole = torch.tensor([i for i, piece in enumerate(pieces) if "\ufffd" not in piece.decode("utf-8", "replace")])
    parts = torch.tensor(tokenizer.encode("man woman hero heroine his café policewoman s a", add_special_tokens=False))
    random = torch.Generator().manual_seed(1)
    pool = torch.cat([whole, parts.repeat(20)])
    pool = pool[[i for i, token in enumerate(pool.tolist()) if token in set(whole.tolist())]]
    ids = pool[torch.randint(len(pool), (300, 12), generator=random)]
    found = total(reader, ids)
    wanted = torch.stack([expected(text_of(tokenizer, row)) for row in ids.tolist()])
    assert torch.equal(found, wanted)
    assert int((wanted != 0).any(dim=1).sum()) > 50  # the words do occur


def test_adding_a_token_is_reading_it(tokenizer: PreTrainedTokenizerFast):
    reader = WordReader.of(spelled(tokenizer), WORDS, 2)
    random = torch.Generator().manual_seed(2)
    vocabulary = reader.letters.numel()
    for length in (0, 1, 7):
        ids = torch.randint(vocabulary, (20, length), generator=random)
        candidates = torch.randint(vocabulary, (20, 5), generator=random)
        read = reader.read(ids)
        added = reader.given(ids, read).sum(dim=1)[:, None] + reader.add(read.open, candidates)
        for column in range(5):
            longer = torch.cat([ids, candidates[:, column : column + 1]], dim=1)
            assert torch.equal(added[:, column], total(reader, longer))


def test_token_by_token_is_all_at_once(tokenizer: PreTrainedTokenizerFast):
    reader = WordReader.of(spelled(tokenizer), WORDS, 2)
    by_token = TokenByToken(reader)
    parts = torch.tensor(
        tokenizer.encode("man, woman hero-heroine his café's policewoman s a.", add_special_tokens=False)
    )
    random = torch.Generator().manual_seed(3)
    pool = torch.cat([torch.arange(reader.letters.numel() + 3), parts.repeat(40)])  # ids beyond the vocabulary too
    ids = pool[torch.randint(len(pool), (60, 9), generator=random)]
    given = 0
    for row in ids.tolist():
        text = by_token.start
        for length, token in enumerate(row):
            before = torch.tensor([row[:length]], dtype=torch.long)
            read = reader.read(before)
            assert text.open == int(read.open) % 2**64
            assert list(text.total) == reader.given(before, read).sum(dim=1)[0].tolist()
            assert list(by_token.add(text.open, token)) == reader.add(read.open, torch.tensor([[token]]))[0, 0].tolist()
            text = by_token.read(text, token)
            given += any(text.total)
    assert given > 50


def test_a_character_in_two_tokens_stays_in_its_word(tokenizer: PreTrainedTokenizerFast):
    pieces = spelled(tokenizer)
    single = {piece: i for i, piece in enumerate(pieces) if len(piece) == 1}
    raw = "café".encode()
    if not all(bytes([byte]) in single for byte in raw):
        pytest.skip("WordPiece has no bytes")
    reader = WordReader.of(pieces, WORDS, 2)
    ids = torch.tensor([[single[bytes([byte])] for byte in raw]])
    assert total(reader, ids)[0].tolist() == [16.0, 16.0]


def test_long_texts_keep_their_words(tokenizer: PreTrainedTokenizerFast):
    # 3,000 letters and more: powers of the base far beyond 64 bits.
    reader = WordReader.of(spelled(tokenizer), WORDS, 2)
    text = "the heroine " * 500
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    assert total(reader, ids)[0].tolist() == [0.0, 4000.0]
