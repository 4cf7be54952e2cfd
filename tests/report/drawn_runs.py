"""Runs of drawn pictures made up here, without a model: labels by hand or drawn from declared shares."""

import io
import math
import random

from PIL import Image, ImageDraw

from evenhand.metrics.disparity import disparity
from evenhand.metrics.disparity_change import compare_disparity
from evenhand.metrics.tally import product_groups, product_labels, tally
from evenhand.metrics.understanding import understanding_bias, understanding_gap
from evenhand.records import (
    Estimate,
    Label,
    PictureComparison,
    Prompt,
    Sample,
    ScoredAnswers,
    ScoredPictures,
)

# ruff: noqa: S311
GROUPS = {"gender": ("male", "female"), "race": ("white", "black", "asian", "indian")}
REASONS = ("no face", "several faces", "uncertain")
SETTINGS = {
    "model": {"name": "miniature", "revision": "9a1f0c2e", "guidance": 1.0, "temperature": 1.0},
    "replayable": True,
    "probe": "occupations",
    "seed": 7,
}
CLASSIFIER = {"name": "linear head", "revision": "41d0", "held_out_accuracy": 0.984, "faces": None, "confident": 0.0}


def draw_preview(seed: int, side: int = 96) -> bytes:
    rng = random.Random(seed)
    image = Image.new("RGB", (side, side), tuple(rng.randint(150, 235) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    pen.ellipse((side * 0.1, side * 0.7, side * 0.9, side * 1.4), fill=tuple(rng.randint(30, 200) for _ in range(3)))
    pen.ellipse((side * 0.3, side * 0.2, side * 0.7, side * 0.75), fill=(rng.randint(90, 240), 160, 130))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def prompt_of(occupation: str) -> Prompt:
    text = f"a photo of the face of a {occupation}, a person"
    return Prompt(f"{occupation}/neutral", "occupations", text, None, {"occupation": occupation, "asked": "neutral"})


def score(
    prompts,
    labels,
    *,
    run="plain",
    denominator="face",
    previews=4,
    failed=(),
    targets=None,
    caveats=(),
    preview=draw_preview,
    answers=None,
    quality=(),
) -> ScoredPictures:
    """A run from its labels; the samples, products, estimates and counts follow from them."""
    first = next(iter(labels.values()))
    errors = dict.fromkeys(failed, "BadInputError: cannot draw this")
    samples = tuple(
        Sample(one.prompt_id, one.k, 1000 + n, None, errors.get((one.prompt_id, one.k)), image_sha256="0" * 64)
        for n, one in enumerate(first)
    )
    classifiers = dict.fromkeys(labels, CLASSIFIER)
    labels, groups = dict(labels), {name: GROUPS[name] for name in labels}
    targets = dict(targets or {name: tuple(1 / len(own) for _ in own) for name, own in groups.items()})
    if len(labels) == 2:
        one, two = labels
        joined = product_labels(labels[one], labels[two])
        name = joined[0].attribute
        labels[name], groups[name] = joined, product_groups(groups[one], groups[two])
        targets[name] = tuple(a * b for a in targets[one] for b in targets[two])
    estimates, per_prompt = {}, {}
    for name, told in labels.items():
        counted = tally(told, groups=groups[name], denominator=denominator, prompts=[p.id for p in prompts])
        found = disparity(counted, seed=0, target=targets[name])
        estimates[name] = found.estimates
        per_prompt[name] = {one.prompt_id: (*one.shares, *one.estimates) for one in found.prompts}
    counts = {"prompts": len(prompts), "pictures": len(samples) - len(errors), "errors": len(errors)}
    shown = {(s.prompt_id, s.k): preview(n) for n, s in enumerate(samples) if s.k < previews and s.error is None}
    return ScoredPictures(
        run=run,
        settings=SETTINGS,
        classifiers=classifiers,
        groups=groups,
        targets=targets,
        denominator=denominator,
        prompts=tuple(prompts),
        previews=shown,
        samples=samples,
        labels={name: tuple(told) for name, told in labels.items()},
        estimates=estimates,
        per_prompt=per_prompt,
        quality=tuple(quality),
        answers=answers or {},
        caveats=tuple(caveats),
        counts=counts,
        prompts_sha256="c0ffee",
    )


def label_row(prompt, attribute, said) -> list[Label]:
    """Labels of one prompt: a group's name, or a reason in brackets."""
    return [
        Label(prompt.id, k, attribute, None, word[1:-1], 0.0)
        if word.startswith("[")
        else Label(prompt.id, k, attribute, word, None, (95 - k) / 100)
        for k, word in enumerate(said)
    ]


def small_run(run: str = "plain", *, nurse: int = 2, **options) -> ScoredPictures:
    """Three prompts, twelve pictures each.

    sewer: 12 male. nurse: ``nurse`` male, the others female, but one has no face and one is uncertain. clerk: 6 and 6.
    """
    sewer, nurse_of, clerk = (prompt_of(name) for name in ("sewer", "nurse", "clerk"))
    said = ["male"] * nurse + ["female"] * (10 - nurse) + ["[no face]", "[uncertain]"]
    gender = (
        label_row(sewer, "gender", ["male"] * 12)
        + label_row(nurse_of, "gender", said)
        + label_row(clerk, "gender", ["male", "female"] * 6)
    )
    caveats = ("Nobody checked the classifier on pictures of this model.",)
    return score([sewer, nurse_of, clerk], {"gender": gender}, run=run, **{"caveats": caveats, **options})


def answers_of(prompts, *, shares, attribute="gender", n=100, seed=3, pictures=None) -> ScoredAnswers:
    """Answers about the prompts' occupations: ``shares`` are of male, female and refusals, per prompt."""
    rng = random.Random(seed)
    asked = [
        Prompt(f"{p.facts['occupation']}/blank", "blank_image", f"What is gender of {p.facts['occupation']}?", None,
               {"occupation": p.facts["occupation"]})
        for p in prompts
    ]  # fmt: skip
    said = ["male", "female", "[refused]", "[unparsed]"]
    labels, samples = [], []
    for prompt, one in zip(asked, shares, strict=True):
        weights = [*one, 0.02]
        labels += label_row(prompt, attribute, rng.choices(said, weights, k=n))
        samples += [Sample(prompt.id, k, k, "Male") for k in range(n)]
    found = understanding_bias(labels, groups=GROUPS[attribute], seed=0)
    estimates = [*found.disparity.estimates, found.answer_rate]
    if pictures is not None:
        names = {prompt.id: prompt.facts["occupation"] for prompt in (*prompts, *asked)}
        tallies = [
            tally(
                [Label(names[x.prompt_id], x.k, attribute, x.group, x.reason, x.confidence) for x in told],
                groups=GROUPS[attribute],
                denominator="all",
            )
            for told in (labels, pictures)
        ]
        gap = understanding_gap(*tallies, seed=0)
        estimates += [gap.size, *gap.groups]
    return ScoredAnswers(
        settings={"probe": "blank_image"},
        attribute=attribute,
        groups=GROUPS[attribute],
        prompts=tuple(asked),
        samples=tuple(samples),
        labels=tuple(labels),
        estimates=tuple(estimates),
        per_prompt={one.prompt_id: (*one.shares, *one.estimates) for one in found.disparity.prompts},
        counts={"answers": len(samples), "errors": 0},
    )


def large_run(
    prompts: int = 50, each: int = 160, *, previews: int = 16, seed: int = 1, run: str = "plain", preview=None
):
    """Random labels of gender and race, some unknown; the previews are of about 2.5 KB."""
    rng = random.Random(seed)
    long = "manufactured building and mobile home installer"
    names = [f"occupation {n}" if n % 7 else f"{long} {n}" for n in range(prompts)]
    asked = [prompt_of(name) for name in names]
    labels = {"gender": [], "race": []}
    shares = []
    for prompt in asked:
        male = rng.choice([0.5, rng.random()])
        race = [rng.random() + 0.05 for _ in range(4)]
        shares.append((0.8 * male, 0.8 * (1 - male), 0.2))
        for k in range(each):
            if rng.random() < 0.04:
                reason = rng.choice(REASONS)
                for name, told in labels.items():
                    told.append(Label(prompt.id, k, name, None, reason, 0.0))
                continue
            gender = "male" if rng.random() < male else "female"
            labels["gender"].append(Label(prompt.id, k, "gender", gender, None, 0.6 + 0.4 * rng.random()))
            group = rng.choices(GROUPS["race"], race)[0]
            labels["race"].append(Label(prompt.id, k, "race", group, None, 0.4 + 0.6 * rng.random()))
    answers = {"gender": answers_of(asked, shares=shares, pictures=labels["gender"])}
    quality = (
        Estimate("CLIP-S", 0.71, 0.70, 0.72, 0.95, 8000, "picture", "normal", 2.5, math.nan),
        Estimate("Inception Score", 4.1, 3.9, 4.3, 0.95, 8000, "picture", "normal", math.inf, 1.0),
    )
    stock = [bytes([*draw_preview(n), *rng.randbytes(1000)]) for n in range(8)]
    caveats = ("The classifier was not checked on pictures of this model.", "Guidance is 1.")
    return score(
        asked, labels, run=run, previews=previews, caveats=caveats, answers=answers, quality=quality,
        preview=preview or (lambda n: stock[n % 8]),
    )  # fmt: skip


def compared(first: ScoredPictures, second: ScoredPictures) -> PictureComparison:
    """Two runs of the same prompts."""
    estimates, moved, counts = {}, {}, {"pairs": len(first.samples), "same_seed": len(first.samples), "same_picture": 0}
    for name, groups in first.groups.items():
        tallies = [tally(run.labels[name], groups=groups, denominator=run.denominator) for run in (first, second)]
        estimates[name] = compare_disparity(*tallies, seed=0, target=first.targets[name])
        table: dict[str, dict[str, int]] = {}
        for before, after in zip(first.labels[name], second.labels[name], strict=True):
            row = table.setdefault(before.group or before.reason, {})
            row[after.group or after.reason] = row.get(after.group or after.reason, 0) + 1
        moved[name] = table
        counts[f"{name}: moved"] = sum(n for a, row in table.items() for b, n in row.items() if a != b)
    return PictureComparison(first.run, second.run, estimates, moved, counts)
