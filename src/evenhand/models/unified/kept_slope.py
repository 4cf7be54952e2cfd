"""A number of each position whose logits are not kept. In: what the head reads. Out: the number, with its gradient.

The derivative by what the head reads is worked out together with the number, a few positions at a time, and is all that
is kept: it is as wide as a hidden state, where logits are as wide as a codebook. The head itself gets no gradient.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["with_kept_slope"]


def with_kept_slope(
    worth: Callable[[Tensor], Tensor], read: Float[Tensor, "*positions read"]
) -> Float[Tensor, "*positions"]:
    """``worth(read)``, a number of each position; differentiable by ``read`` without what ``worth`` makes on its way.

    Args:
        worth: Works each position out by itself; its own parameters get no gradient.
        read: What the head's last layer reads.
    """
    if not (torch.is_grad_enabled() and read.requires_grad):
        return worth(read)
    found: Tensor = _KeptSlope.apply(read, worth)  # type: ignore[no-untyped-call]
    return found


def _same(kept: Tensor) -> Tensor:
    return kept


class _KeptSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, read, worth):  # type: ignore[no-untyped-def]
        # Whoever checkpoints what stands around it would make it all again for this inner derivative: hold them off.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_same, _same):
            own = read.detach().requires_grad_()
            value = worth(own)
            (slope,) = torch.autograd.grad(value.sum(), own)
        ctx.save_for_backward(slope)
        return value.detach()

    @staticmethod
    def backward(ctx, told):  # type: ignore[no-untyped-def]
        (slope,) = ctx.saved_tensors
        return (told[..., None] * slope).to(slope.dtype), None
