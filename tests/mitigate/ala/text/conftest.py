"""What the text scorers' tests share: a tokenizer of each family."""

import pytest
from text_material import FAMILIES, tokenizer_of
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="session", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return tokenizer_of(request.param)
