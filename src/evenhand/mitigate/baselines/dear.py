"""DeAR, a learnt residual. In: picture features and groups. Out: a map from which a classifier reads no group.

Seth, Hemani, Agarwal 2023, "DeAR: Debiasing Vision-Language Models with Additive Residuals", CVPR,
arXiv 2303.10431: a protected-attribute classifier (PAC) is trained and frozen, then a small residual is trained to
mislead it while it stays small. The paper's loss weights are not public; here they are searched for, see ``fit_dear``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from evenhand.errors import ArtefactError, BadInputError
from evenhand.mitigate.baselines.features import check_rows, check_width

__all__ = ["AdditiveResidual", "DearRecipe", "fit_dear"]


@dataclass(frozen=True, slots=True, eq=False)
class AdditiveResidual:
    r"""Adds a learnt residual: :math:`h' = h + W_2 \max(W_1 h, 0)`.

    Attributes:
        name: ``dear``.
        feature_dim: Length of the last axis.
        first: W1.
        second: W2.
        settings: JSON values: the recipe, and what the classifier could read before and after.

    Raises:
        ArtefactError: The matrices do not fit each other, or are not finite.
    """

    name: str
    feature_dim: int
    first: Float[Tensor, "hidden features"]
    second: Float[Tensor, "features hidden"]
    settings: Mapping[str, object]

    def __post_init__(self) -> None:
        hidden = self.first.shape[0]
        if self.first.shape[1] != self.feature_dim or tuple(self.second.shape) != (self.feature_dim, hidden):
            raise ArtefactError(
                f"{self.name}: matrices of shape {tuple(self.first.shape)} and {tuple(self.second.shape)} do not map "
                f"{self.feature_dim} features to as many. Fit it again."
            )
        if not bool(torch.isfinite(self.first).all() and torch.isfinite(self.second).all()):
            raise ArtefactError(f"{self.name}: a weight is NaN or infinite. Fit it again.")

    def __call__(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
        """The features with the residual added.

        Raises:
            BadInputError: The features have another length than those it was fitted on.
        """
        check_width(features, self.feature_dim, self.name)
        return features + _residual(features, self.first.to(features), self.second.to(features))

    def tensors(self) -> dict[str, Tensor]:
        """``first`` and ``second``."""
        return {"first": self.first.contiguous(), "second": self.second.contiguous()}


@dataclass(frozen=True, slots=True)
class DearRecipe:
    """How a residual is trained.

    Attributes:
        hidden: Width of the residual's hidden layer; None is the features' (square layers).
        classifier_hidden: Width of the classifier's hidden layer.
        steps: Of either training, batches of ``batch`` rows.
        batch: Rows in a step.
        rate: Of Adam.
        entropy: Weight of the classifier's entropy, relative to that of its cross-entropy.
        accuracy_above_chance: How far above the commonest group's share the classifier may stay, on held-out rows.
        cosine: Least mean cosine of h and h', on held-out rows.
        held_out: Share of the rows that judges.
    """

    hidden: int | None = None
    classifier_hidden: int = 64
    steps: int = 300
    batch: int = 256
    rate: float = 3e-3
    entropy: float = 16.0
    accuracy_above_chance: float = 0.05
    cosine: float = 0.9
    held_out: float = 0.25

    def __post_init__(self) -> None:
        sizes = (self.hidden or 1, self.classifier_hidden, self.steps, self.batch)
        shares = (self.accuracy_above_chance, self.cosine)
        if min(sizes) < 1 or not 0 < self.held_out < 1 or not self.rate > 0 or not self.entropy >= 0:
            raise BadInputError(f"{self}: sizes and steps must be at least 1, rate above 0, held_out in (0, 1).")
        if not all(0 <= share <= 1 for share in shares):
            raise BadInputError(f"{self}: accuracy_above_chance and cosine must be in [0, 1].")


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """Training and held-out rows, in units of the training rows' root mean square."""

    train: Tensor
    train_labels: Tensor
    held: Tensor
    held_labels: Tensor
    scale: float

    @property
    def chance(self) -> float:
        return float(torch.bincount(self.held_labels).max() / len(self.held_labels))


_Classifier = Callable[[Tensor], Tensor]


def fit_dear(
    features: Float[Tensor, "rows features"],
    labels: Int[Tensor, " rows"],
    *,
    seed: int,
    recipe: DearRecipe | None = None,
) -> AdditiveResidual:
    r"""Train a classifier, freeze it, and train the smallest residual that misleads it.

    .. math:: \frac{\|\phi(h)\|^2}{\|h\|^2} - \gamma \, (\mathrm{CE} + \eta \, H)(PAC(h + \phi(h)))

    with CE the classifier's cross-entropy and H the entropy of its answer. gamma is the smallest of a search for which
    the classifier's accuracy on held-out rows is at most 5 points above always naming the commonest group. The
    entropy's weight eta is large because the cross-entropy alone has no upper bound: past chance it pays to look like
    another group, and features run away.

    ``settings`` hold the classifier's accuracy before and after, the mean cosine, and ``fresh_accuracy``: that of a
    classifier trained anew on h', which the method does not claim to lower as far.

    Args:
        features: Frozen features of pictures of known group, where the model reads them.
        labels: The group of each, from 0; for several attributes at once, number their combinations.
        seed: Of the split, the initial weights and the order of the rows.
        recipe: Sizes, steps and bounds.

    Raises:
        BadInputError: The classifier reads nothing from the features, or no residual within ``cosine`` misleads it.
        TooFewSamplesError: Under 20 rows, or one group.
    """
    check_rows(features, labels)
    recipe = recipe or DearRecipe()
    draw = torch.Generator().manual_seed(seed)
    split = _split(features.detach().cpu().float(), labels.cpu(), recipe.held_out, draw)
    pac = _train_classifier(split.train, split.train_labels, recipe, draw)
    before = _accuracy(pac, split.held, split.held_labels)
    bound = split.chance + recipe.accuracy_above_chance
    if before <= bound:
        raise BadInputError(
            f"the classifier names {before:.0%} of held-out rows rightly, and always naming the commonest group "
            f"{split.chance:.0%}: there is nothing to take back. Give other features or more rows."
        )
    gamma, weights = _least_misleading(split, pac, recipe, draw, bound)
    moved = split.held + _residual(split.held, *weights)
    cosine = float(functional.cosine_similarity(split.held, moved).mean())
    after = _accuracy(pac, moved, split.held_labels)
    if after > bound or cosine < recipe.cosine:
        raise BadInputError(
            f"with a residual of strength {gamma:.3g} the classifier keeps {after:.0%} (wanted at most {bound:.0%}) "
            f"and the mean cosine is {cosine:.3f} (wanted at least {recipe.cosine}). Allow a lower `cosine`, train "
            "longer, or give more rows."
        )
    fresh = _train_classifier(split.train + _residual(split.train, *weights), split.train_labels, recipe, draw)
    settings = {
        "seed": seed,
        "recipe": {name: getattr(recipe, name) for name in recipe.__slots__},
        "rows": len(features),
        "gamma": gamma,
        "chance": split.chance,
        "accuracy_before": before,
        "accuracy_after": after,
        "fresh_accuracy": _accuracy(fresh, moved, split.held_labels),
        "cosine": cosine,
    }
    # max(c x, 0) = c max(x, 0) for c > 0: the residual of scaled features is the scaled residual.
    return AdditiveResidual("dear", features.shape[1], weights[0], weights[1], settings)


def _residual(features: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return functional.linear(functional.relu(functional.linear(features, first)), second)


def _split(features: Tensor, labels: Tensor, share: float, draw: torch.Generator) -> _Split:
    """Held-out rows of every group, at least one each."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    _, dense = torch.unique(labels, return_inverse=True)
    for group in range(int(dense.max()) + 1):
        members = torch.nonzero(dense == group).flatten()
        order = torch.randperm(len(members), generator=draw)
        held[members[order[: max(1, round(share * len(members)))]]] = True
    scale = float(features[~held].square().mean().sqrt())
    return _Split(features[~held] / scale, dense[~held], features[held] / scale, dense[held], scale)


def _train_classifier(features: Tensor, labels: Tensor, recipe: DearRecipe, draw: torch.Generator) -> _Classifier:
    """A perceptron with one hidden layer on standardised features; frozen."""
    width, hidden, groups = features.shape[1], recipe.classifier_hidden, int(labels.max()) + 1
    mean, std = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    first = torch.randn(hidden, width, generator=draw) / math.sqrt(width)
    second = torch.randn(groups, hidden, generator=draw) / math.sqrt(hidden)
    weights = [first, torch.zeros(hidden), second, torch.zeros(groups)]

    def answer(rows: Tensor) -> Tensor:
        inner = functional.relu(functional.linear((rows - mean) / std, weights[0], weights[1]))
        return functional.linear(inner, weights[2], weights[3])

    def loss(index: Tensor) -> Tensor:
        return functional.cross_entropy(answer(features[index]), labels[index])

    _descend(weights, loss, len(features), recipe, draw, decay=1.0)
    return answer


def _least_misleading(
    split: _Split, pac: _Classifier, recipe: DearRecipe, draw: torch.Generator, bound: float
) -> tuple[float, tuple[Tensor, Tensor]]:
    """The smallest strength found that misleads the classifier: fourfold steps up, then three halvings in between."""
    start = draw.get_state()

    def attempt(gamma: float) -> tuple[bool, tuple[Tensor, Tensor]]:
        draw.set_state(start)  # every strength from the same weights and the same order of rows
        weights = _train_residual(split, pac, recipe, draw, gamma)
        moved = split.held + _residual(split.held, *weights)
        return _accuracy(pac, moved, split.held_labels) <= bound, weights

    low, gamma = 0.0, 0.002
    enough, weights = attempt(gamma)
    while not enough and gamma < 100:
        low, gamma = gamma, gamma * 4
        enough, weights = attempt(gamma)
    for _ in range(3 if enough and low > 0 else 0):
        middle = math.sqrt(low * gamma)
        enough, found = attempt(middle)
        if enough:
            gamma, weights = middle, found
        else:
            low = middle
    return gamma, weights


def _train_residual(
    split: _Split, pac: _Classifier, recipe: DearRecipe, draw: torch.Generator, gamma: float
) -> tuple[Tensor, Tensor]:
    width = split.train.shape[1]
    hidden = recipe.hidden or width
    weights = [torch.randn(hidden, width, generator=draw) / math.sqrt(width), torch.zeros(width, hidden)]
    energy = split.train.square().sum(dim=1).mean()

    def loss(index: Tensor) -> Tensor:
        rows = split.train[index]
        added = _residual(rows, *weights)
        answers = functional.log_softmax(pac(rows + added), dim=-1)
        wrong = functional.nll_loss(answers, split.train_labels[index])
        entropy = -(answers.exp() * answers).sum(dim=-1).mean()
        return added.square().sum(dim=1).mean() / energy - gamma * (wrong + recipe.entropy * entropy)

    _descend(weights, loss, len(split.train), recipe, draw, decay=0.0)
    return weights[0], weights[1]


def _descend(
    weights: list[Tensor],
    loss: Callable[[Tensor], Tensor],
    rows: int,
    recipe: DearRecipe,
    draw: torch.Generator,
    *,
    decay: float,
) -> None:
    """Adam on drawn batches; the weights are changed in place, and need no gradient afterwards."""
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=decay)
    with torch.enable_grad():
        for _ in range(recipe.steps):
            index = torch.randint(rows, (min(recipe.batch, rows),), generator=draw)
            optimizer.zero_grad()
            torch.autograd.backward(loss(index))
            optimizer.step()
    for weight in weights:
        weight.requires_grad_(False)


def _accuracy(classifier: _Classifier, features: Tensor, labels: Tensor) -> float:
    return float((classifier(features).argmax(dim=-1) == labels).double().mean())
