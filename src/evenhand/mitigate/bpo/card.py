"""The card of a trained adapter. In: what was trained on, how, and what came of it. Out: Markdown."""

from collections import Counter

import yaml

from evenhand.mitigate.bpo.config import BPOConfig
from evenhand.mitigate.bpo.tuples import TupleSet
from evenhand.mitigate.bpo.watch import Audited

__all__ = ["training_card"]


def training_card(
    model: str,
    tuples: TupleSet,
    args: BPOConfig,
    before: Audited | None,
    after: Audited | None,
    *,
    steps: int,
    adapter: int | None,
) -> str:
    """Front matter, what was done, what it changed, and what a reader must know.

    Args:
        model: Name of the model that was trained.
        tuples: What was trained on.
        args: How.
        before: Of held-out prompts, before the first step; None where they were not drawn.
        after: The same afterwards.
        steps: Of the optimizer.
        adapter: Rank of the LoRA adapter; None where the weights themselves were trained.
    """
    front = {"tags": ["evenhand", "fairness", "text-to-image"], **({"library_name": "peft"} if adapter else {})}
    sources = Counter(one.source for one in tuples.tuples)
    prompts = len({one.prompt for one in tuples.tuples})
    target = args.target or [1 / len(tuples.groups)] * len(tuples.groups)
    wanted = ", ".join(f"{group} {share:.3g}" for group, share in zip(tuples.groups, target, strict=True))
    asked = args.reference_guidance or args.guidance
    return "\n".join(
        (
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "",
            f"# {model}, trained to draw declared shares",
            "",
            f"{'A LoRA adapter of rank ' + str(adapter) if adapter else 'The whole model'}, trained with evenhand so "
            "that prompts that ask for nobody draw these",
            f"groups of perceived {tuples.attribute} in these shares: {wanted}.",
            "",
            "## Training",
            "",
            "| | |",
            "|---|---|",
            f"| loss | {args.loss_type}{_weights(args)} |",
            f"| tuples | {len(tuples.tuples)} of {prompts} prompts, one picture of each group in each |",
            f"| pictures from | {', '.join(f'{name} ({number} tuples)' for name, number in sorted(sources.items()))} |",
            f"| guidance | trained at {args.guidance:g}, asked for groups at {asked:g} |",
            f"| steps | {steps}, learning rate {args.learning_rate:g} |",
            "",
            "## What held-out prompts draw",
            "",
            *_drawn(before, after),
            "",
            "Groups are *perceived presentation*, as a classifier reads it from pictures. They say nothing about who",
            "anybody is, and the declared groups leave people out. A prompt that asks for a group should still draw",
            "it: `evenhand audit` measures that, and quality, on pictures of your own prompts.",
            "",
        )
    )


def _weights(args: BPOConfig) -> str:
    if args.loss_type == "sft":
        return ""
    return f", weight {args.beta:g}, pairs {args.pairs}, negative log-likelihood {args.nll_weight:g}"


def _drawn(before: Audited | None, after: Audited | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ("Not measured in this run.",)
    return (
        "| | before | after | an even model |",
        "|---|---|---|---|",
        f"| disparity (RD) | {before.disparity:.3f} | {after.disparity:.3f} | {after.floor:.3f} |",
        f"| show a group | {before.shown:.1%} | {after.shown:.1%} | |",
        "",
        f"{after.pictures} pictures. RD as the sample shows it: 0 is the target; an even model shows the last column.",
    )
