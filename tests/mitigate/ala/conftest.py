"""The toy's tokenizer and token weights, made once."""

import pytest
from toy import toy_tokenizer, toy_weights


@pytest.fixture(scope="session")
def tokenizer():
    return toy_tokenizer()


@pytest.fixture(scope="session")
def weights(tokenizer):
    return toy_weights(tokenizer)
