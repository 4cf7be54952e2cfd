"""A model somebody else ships. In: prompts. Out: ``a person`` for every picture; its rates are known exactly."""

from evenhand.records import Sample

__all__ = ["SaysPerson", "says_person"]


class SaysPerson:
    """Names no group, so that every misclassification rate is 0 and the neutral rate is 1."""

    name = "says-person"
    revision = "1"
    batch_size = 8

    def answer(self, prompts, *, seeds, intervention=None):
        return tuple(Sample(prompt.id, 0, seed, "a person") for prompt, seed in zip(prompts, seeds, strict=True))


def says_person():
    return SaysPerson()
