"""The log-probability of one code of each position. In: logits. Out: nats, with a gradient that is worked out in place.

``log_softmax`` and ``gather`` give the same; their gradients fill three more tensors as wide as a vocabulary, which is
what a step on a small model spends its time on.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["chosen_log_probs"]


def chosen_log_probs(logits: Float[Tensor, "rows codebook"], codes: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Log-probability of each row's code in nats, at most 0. A gradient can be taken once.

    Args:
        logits: In nats, up to a constant a row.
        codes: Below the codebook's size.
    """
    found: Tensor = _Chosen.apply(logits, codes)  # type: ignore[no-untyped-call]
    return found


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, codes):  # type: ignore[no-untyped-def]
        told = logits.log_softmax(dim=-1)
        ctx.save_for_backward(told, codes)
        return told.gather(-1, codes[:, None])[:, 0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):  # type: ignore[no-untyped-def]
        told, codes = ctx.saved_tensors
        own = told.exp_().mul_(-slope[:, None])  # d log p_z / d logit_v = [v = z] - p_v
        return own.scatter_add_(-1, codes[:, None], slope[:, None]), None
