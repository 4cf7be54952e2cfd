"""Importances worked out by hand on small classifiers, and captum's on a transformer."""

# ruff: noqa: S106  (special tokens are not passwords)

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from evenhand.errors import BadInputError
from evenhand.mitigate.ala.importance import (
    EmbeddingClassifier,
    completeness_importance,
    corpus_importance,
    integrated_gradients,
    pieces_of_vocabulary,
    sequence_importance,
)


class Summing:
    """Logits are the sum of a text's embeddings, or of the squared sum: integrals that can be done by hand.

    For f = (e_1 + ... + e_n)^2 from zero, the integral of e_i * 2 a S da over [0, 1] is e_i * S.
    """

    def __init__(self, embeddings: list[tuple[float, float]], *, squared: bool = False) -> None:
        self.table, self.squared = torch.tensor(embeddings), squared

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self.table[token_ids]

    def logits_from_embeddings(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        total = (embeddings * mask[..., None]).sum(dim=1)
        return total**2 if self.squared else total


class Transformer(nn.Module):
    """Two encoder layers over learnt positions, masked mean, linear.

    Smooth, so that captum's 50 steps are the integral itself.
    """

    def __init__(self, *, groups: int = 2) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.tokens = nn.Embedding(50, 16)
        self.positions = nn.Parameter(torch.randn(12, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, groups)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self.tokens(token_ids)

    def logits_from_embeddings(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.encoder(embeddings + self.positions[: embeddings.shape[1]], src_key_padding_mask=~mask)
        states = states * mask[..., None]
        return self.head(states.sum(dim=1) / mask.sum(dim=1, keepdim=True))


@pytest.fixture(scope="module")
def transformer() -> Transformer:
    return Transformer().eval()


def captums(classifier: nn.Module, ids: torch.Tensor, absent: torch.Tensor, target: int) -> torch.Tensor:
    """Captum's attribution of each token of one text, one at a time, 50 steps."""
    captum = pytest.importorskip("captum.attr", reason="captum, the reference, is not installed")
    mask = torch.ones_like(ids, dtype=torch.bool)
    reference = captum.IntegratedGradients(lambda x: classifier.logits_from_embeddings(x, mask.expand(len(x), -1)))
    found = reference.attribute(classifier.embed(ids), absent, target=target, n_steps=50, internal_batch_size=50)
    return found.sum(dim=-1)[0].detach()


# --- one token ---------------------------------------------------------------------------------------------------


def test_a_token_alone_by_hand():
    # f = (e_1)^2: tokens of 1, -2 and 3 change the first logit by 1, 4 and 9, the second by 0, 1 and 4.
    squared = Summing([(9.0, 9.0), (1.0, 0.0), (-2.0, 1.0), (3.0, -2.0)], squared=True)
    found = completeness_importance(squared, torch.tensor([3, 1, 2, 1]), batch_size=3)
    assert found.tolist() == [[9.0, 4.0], [1.0, 0.0], [4.0, 1.0], [1.0, 0.0]]


def test_the_padding_token_as_baseline():
    # Padding is 2: f(3) - f(2) = 9 - 4.
    squared = Summing([(2.0, 0.0), (3.0, 0.0)], squared=True)
    assert completeness_importance(squared, torch.tensor([1]), baseline="pad", pad_id=0, batch_size=1).tolist() == [
        [5.0, 0.0]
    ]


def test_pieces_between_fixed_tokens_by_hand():
    # [CLS] = 10 and [SEP] = 1 stay: (10 + 1 + 2 + 1)^2 - (10 + 1)^2 = 196 - 121; (10 + 3 + 1)^2 - 121 the same.
    squared = Summing([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (10.0, 0.0)], squared=True)
    found = sequence_importance(squared, [(1, 2), (3,), (1,)], before=(4,), after=(1,), batch_size=8)
    assert found[:, 0].tolist() == [75.0, 75.0, 23.0]


@pytest.mark.parametrize("baseline", ["zero", "pad"])
def test_captum_agrees_on_every_token(transformer, baseline):
    ids = torch.arange(1, 13)
    pad_id = 0 if baseline == "pad" else None
    found = completeness_importance(transformer, ids, baseline=baseline, pad_id=pad_id, batch_size=5)
    assert found.abs().max() > 0.05
    absent = transformer.embed(torch.zeros(1, 1, dtype=torch.long))
    absent = (absent if baseline == "pad" else torch.zeros_like(absent)).detach()
    for group in (0, 1):
        expected = [captums(transformer, token[None, None], absent, group).item() for token in ids]
        assert found[:, group].tolist() == pytest.approx(expected, abs=1e-4)


def test_captum_agrees_on_pieces_between_fixed_tokens(transformer):
    found = sequence_importance(transformer, [(5, 6, 7)], before=(1,), after=(2,), batch_size=1)
    ids = torch.tensor([[1, 5, 6, 7, 2]])
    absent = transformer.embed(ids).detach().clone()
    absent[:, 1:4] = 0.0
    assert found[0, 1].item() == pytest.approx(captums(transformer, ids, absent, 1).sum().item(), abs=1e-4)


def test_batches_do_not_matter(transformer):
    sequences = [(3,), (4, 5), (6,), (7, 8, 9), (4, 5), (10,)]
    whole = sequence_importance(transformer, sequences, batch_size=100)
    single = torch.cat([sequence_importance(transformer, [s], batch_size=1) for s in sequences])
    torch.testing.assert_close(whole, single, atol=1e-5, rtol=0)
    torch.testing.assert_close(sequence_importance(transformer, sequences, batch_size=2), single, atol=1e-5, rtol=0)


# --- several tokens at once --------------------------------------------------------------------------------------


def test_integrated_gradients_by_hand():
    # Tokens 1, 2, 4 with f = S^2, S = 7: e_i * S; from a baseline of 1 on the first, S moves from 1 to 7 along with
    # the others alone: e_i * (1 + 7) / 2 * 2 = 8 e_i, and nothing for the first.
    squared = Summing([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (4.0, 0.0)], squared=True)
    x, mask = squared.embed(torch.tensor([[1, 2, 3]])), torch.ones(1, 3, dtype=torch.bool)
    found = integrated_gradients(squared, x, mask, torch.zeros_like(x), steps=2)
    torch.testing.assert_close(found[0], torch.tensor([[7.0, 0.0], [14.0, 0.0], [28.0, 0.0]]))
    absent = torch.zeros_like(x)
    absent[0, 0] = x[0, 0]
    found = integrated_gradients(squared, x, mask, absent, steps=2)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([0.0, 16.0, 32.0]))


def test_captum_agrees_on_texts_of_different_lengths(transformer):
    ids = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
    mask = ids > 0
    x = transformer.embed(ids).detach()
    found = integrated_gradients(transformer, x, mask, torch.zeros_like(x), steps=50)
    for group in (0, 1):
        for row, length in ((0, 5), (1, 3)):
            text = ids[row : row + 1, :length]
            expected = captums(transformer, text, torch.zeros_like(transformer.embed(text)), group)
            torch.testing.assert_close(found[row, :length, group], expected, atol=1e-4, rtol=0)
    assert (found[1, 3:] == 0).all()


def test_importances_sum_to_the_change_of_the_output(transformer):
    ids, mask = torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=torch.bool)
    x = transformer.embed(ids).detach()
    found = integrated_gradients(transformer, x, mask, torch.zeros_like(x), steps=50)
    with torch.no_grad():
        change = transformer.logits_from_embeddings(x, mask) - transformer.logits_from_embeddings(0 * x, mask)
    torch.testing.assert_close(found.sum(dim=1), change, atol=1e-4, rtol=0)


def test_the_classifier_gets_no_gradients(transformer):
    corpus_importance(transformer, [[5, 6], [7]], [0, 1], steps=4)
    assert all(parameter.grad is None for parameter in transformer.parameters())


# --- a corpus ----------------------------------------------------------------------------------------------------

# Padding, then three tokens: the first speaks for group 0, the second for group 1, the third for neither.
LINEAR = Summing([(0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (1.0, 1.0)])


def test_means_by_hand():
    # Logits less their mean: token 1 (1, -1), token 2 (-1.5, 1.5), token 3 (0, 0), the same wherever they occur, so
    # each t is infinite. Shrunk by n / (n + 20): 1 * 2/22 and 1.5 * 4/24; over the largest, 0.25: 0.3636 and 1.
    found = corpus_importance(LINEAR, [[1, 1, 3], [2, 3, 2], [2, 2]], [0, 1, 1], steps=2)
    assert (found.token_ids.tolist(), found.count.tolist()) == ([1, 2, 3], [2, 4, 2])
    assert found.beta.tolist() == [pytest.approx([4 / 11, -4 / 11]), [-1.0, 1.0], [0.0, 0.0]]


def test_rare_tokens_weigh_less_and_once_is_nothing():
    found = corpus_importance(LINEAR, [[1] * 20, [1] * 20, [2]], [0, 0, 1], n0=40.0, steps=2)
    assert found.beta.tolist() == [[1.0, -1.0], [0.0, 0.0]]
    assert torch.isnan(found.t[1]).all()
    # Without shrinkage the rarer of two counts as much per logit: 1 against 1.5.
    plain = corpus_importance(LINEAR, [[1] * 20, [2, 2]], [0, 1], n0=0.0, steps=2)
    assert plain.beta[:, 0].tolist() == pytest.approx([2 / 3, -1.0])


def test_t_by_hand():
    # f_0 = S^2, f_1 = 0. Token 1 (of 1) in texts of S = 3, 0 and 1 has 3, 0 and 1; less the groups' mean: 1.5, 0, 0.5.
    # Mean 2/3, variance (0.6944 + 0.4444 + 0.0278) / 2 = 0.5833, error sqrt(0.5833 / 3) = 0.4410, t = 1.5119.
    squared = Summing([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (-1.0, 0.0)], squared=True)
    texts, labels = [[1, 2], [1, 3], [1]], [0, 0, 1]
    found = corpus_importance(squared, texts, labels, n0=0.0, least_t=1.0, steps=2)
    assert found.t[0].tolist() == pytest.approx([1.5119, -1.5119], abs=1e-4)
    assert found.beta[0].tolist() == [1.0, -1.0]
    strict = corpus_importance(squared, texts, labels, n0=0.0, steps=2)
    assert (strict.beta == 0).all()


def test_the_published_aggregation_by_hand():
    # Own logits, summed: group 0 has 2 + 2 for token 1 and 1 for token 3, of 5; group 1 has 3 for token 2 and 1 for
    # token 3, of 4. Differences 0.8, -0.75, 0.2 - 0.25 = -0.05; over 0.8 and over 0.75.
    found = corpus_importance(LINEAR, [[1, 1, 3], [2, 3]], [0, 1], paper=True, steps=2)
    assert found.beta[:, 0].tolist() == pytest.approx([1.0, -1.0, -0.05 / 0.75])
    torch.testing.assert_close(found.beta[:, 1], -found.beta[:, 0])


def test_published_totals_that_are_not_positive_do_not_divide():
    # Group 0: token 1 with -2; group 1: token 2 with 4 of 4. Differences -2, -1: over 2 both.
    negative = Summing([(0.0, 0.0), (-2.0, 0.0), (0.0, 4.0)])
    found = corpus_importance(negative, [[1], [2]], [0, 1], paper=True, steps=2)
    assert found.beta[:, 0].tolist() == [-1.0, -0.5]


def test_three_groups():
    class Three(Summing):
        def logits_from_embeddings(self, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            total = super().logits_from_embeddings(embeddings, mask)
            return torch.cat([total, total.sum(dim=1, keepdim=True)], dim=1)

    # Token 1 has (2, 0, 2) less 4/3: (2/3, -4/3, 2/3); over the largest: (0.5, -1, 0.5).
    found = corpus_importance(Three([(0.0, 0.0), (2.0, 0.0)]), [[1, 1]], [2], steps=2)
    assert found.beta[0].tolist() == pytest.approx([0.5, -1.0, 0.5])


def test_skipped_tokens_stay_in_the_text():
    squared = Summing([(0.0, 0.0), (1.0, 0.0), (5.0, 0.0)], squared=True)
    found = corpus_importance(squared, [[2, 1], [2, 1]], [0, 0], skip=(2,), n0=0.0, steps=2)
    assert found.token_ids.tolist() == [1]
    # Token 1 has 1 * S = 6 in each text, 3 less the mean: alone it would have 0.5.
    mean = corpus_importance(squared, [[2, 1], [2, 1], [1]], [0, 0, 1], skip=(2,), n0=0.0, least_t=0.0, steps=2)
    assert mean.t[0, 0].item() == pytest.approx(((3 + 3 + 0.5) / 3) / ((2.5 / 3**0.5) / 3**0.5), rel=1e-4)


def test_the_order_of_texts_does_not_matter(transformer):
    texts, labels = [[5, 6, 7], [8], [9, 5], [6, 6, 6, 5]], [0, 1, 0, 1]
    for paper in (False, True):
        one = corpus_importance(transformer, texts, labels, paper=paper, least_t=0.0, steps=20, batch_size=20)
        other = corpus_importance(transformer, texts[::-1], labels[::-1], paper=paper, least_t=0.0, steps=20)
        torch.testing.assert_close(one.beta, other.beta, atol=1e-4, rtol=0)
        assert one.beta.abs().max() == 1.0


# --- refusals ----------------------------------------------------------------------------------------------------


def test_training_mode_is_refused():
    training = Transformer()
    for ask in (
        lambda: completeness_importance(training, torch.tensor([1]), batch_size=1),
        lambda: corpus_importance(training, [[1]], [0]),
    ):
        with pytest.raises(BadInputError, match="eval"):
            ask()


@pytest.mark.parametrize(("baseline", "pad_id"), [("pad", None), ("zero", 0)])
def test_a_baseline_and_its_token_go_together(baseline, pad_id):
    with pytest.raises(BadInputError, match="pad_id"):
        completeness_importance(LINEAR, torch.tensor([1]), baseline=baseline, pad_id=pad_id, batch_size=1)


@pytest.mark.parametrize(
    ("texts", "labels", "paper"),
    [([], [], False), ([[]], [0], False), ([[1]], [], False), ([[1]], [2], False), ([[1]], [-1], False)],
)
def test_wrong_texts_are_refused(texts, labels, paper):
    with pytest.raises(BadInputError):
        corpus_importance(LINEAR, texts, labels, paper=paper)


def test_the_published_aggregation_needs_two_groups():
    with pytest.raises(BadInputError, match="two"):
        corpus_importance(Transformer(groups=3).eval(), [[1]], [0], paper=True, steps=2)


def test_what_qualifies(transformer):
    assert isinstance(transformer, EmbeddingClassifier)
    assert not isinstance(nn.Linear(1, 1), EmbeddingClassifier)


# --- another tokenizer's pieces ----------------------------------------------------------------------------------


def test_a_vocabulary_in_another_tokenizers_pieces():
    lm = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<s>", "▁He", "he", "▁him", "▁,", "▁Zoë"])}, "<s>"))
    lm.pre_tokenizer, lm.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    other = Tokenizer(models.WordPiece({"[UNK]": 0, "he": 1, "hi": 2, "##m": 3, ",": 4}, unk_token="[UNK]"))
    other.normalizer, other.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    found = pieces_of_vocabulary(
        PreTrainedTokenizerFast(tokenizer_object=lm, bos_token="<s>"),
        PreTrainedTokenizerFast(tokenizer_object=other, unk_token="[UNK]"),
    )
    # `He` and `he` are one; the special token, the comma and the name it cannot read have none.
    assert sorted(found.sequences) == [(1,), (2, 3)]
    he, him = found.sequences.index((1,)), found.sequences.index((2, 3))
    assert found.index.tolist() == [-1, he, he, him, -1, -1]
