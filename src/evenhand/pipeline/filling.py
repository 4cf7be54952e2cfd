"""Asks what a ledger still misses. In: a ledger and a model's call. Out: a ledger with every sample wanted."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from evenhand.errors import BadInputError, ServiceError
from evenhand.execute.local import run_locally
from evenhand.ledger import Ledger, seed_of
from evenhand.records import Prompt, Sample

__all__ = ["Progress", "fill"]

Progress = Callable[[int, int], None]
"""Called with (samples there, samples wanted) whenever a batch is stored."""


def fill(
    ledger: Ledger,
    ask: Callable[[Sequence[Prompt], Sequence[int]], tuple[Sample, ...]],
    *,
    name: str,
    batch_size: int,
    samples: int,
    run: str,
    progress: Progress | None,
) -> None:
    """Ask what is missing, batch by batch, and store every batch before the next.

    Errors are stored and not asked again, but for those of a server that gave no answer (``ServiceError``).

    Args:
        ledger: Open for writing.
        ask: Prompts and their seeds -> one sample each, same order; their ``k`` is set here.
        name: The model's, for messages.
        batch_size: Prompts a call, 1 or more.
        samples: Wanted of each prompt.
        run: Name that seeds are made from.
        progress: Told after each batch.

    Raises:
        BadInputError: The model gave another number of samples than it was asked for.
    """
    missing = ledger.missing(samples)
    wanted = len(ledger.prompts()) * samples
    done = wanted - len(missing)
    if progress is not None:
        progress(done, wanted)

    def work(batch: Sequence[tuple[Prompt, int]]) -> tuple[Sample, ...]:
        seeds = [seed_of(run, prompt.id, k) for prompt, k in batch]
        given = ask([prompt for prompt, _ in batch], seeds)
        if len(given) != len(batch):
            raise BadInputError(
                f"model {name!r}: got {len(given)} samples for {len(batch)} prompts; allowed: one each; "
                "give a prompt that fails a sample with error."
            )
        # A model knows no k; that prompt and seed are those asked for, in order, the ledger checks.
        return tuple(replace(sample, k=k) for sample, (_, k) in zip(given, batch, strict=True))

    for given in run_locally(work, [missing[i : i + batch_size] for i in range(0, len(missing), batch_size)]):
        # What a server did not answer is not stored: the same command asks again.
        filled = [sample for sample in given if not (sample.error or "").startswith(f"{ServiceError.__name__}:")]
        ledger.append(filled)
        done += len(filled)
        if progress is not None:
            progress(done, wanted)
