"""A made-up audit: twelve drawn pictures, three runs, labels and estimates counted here by hand or by brute force."""

import io
import math
import random
from collections.abc import Callable

import pytest
from drawn_runs import answers_of, compared, small_run
from PIL import Image, ImageDraw

from evenhand.records import Claim, Comparison, Edit, Estimate, Label, Prompt, Sample, Scored, WordChange

Audit = tuple[tuple[Scored, ...], tuple[Comparison, ...]]

# ruff: noqa: E501, S311
# id, declared, scene, caption of plain, what `align` writes instead, what `neutral` writes instead
PICTURES = (
    ("kitchen/01.jpg", "female", "kitchen", "A man in an apron is cooking dinner in a kitchen.", ("man", "woman"), ("man", "person")),
    ("kitchen/02.jpg", "male", "kitchen", "A woman is chopping vegetables at a counter.", ("woman", "man"), ("woman", "person")),
    ("desk/03.jpg", "female", "desk", "A man in a suit is working on his laptop.", ("man", "woman"), ("man", "person")),
    ("desk/04.jpg", "male", "desk", "A man is sitting at a desk with a computer.", None, ("man", "person")),
    ("street/05.jpg", "female", "street", "A woman is riding her bicycle down a street.", None, ("woman", "person")),
    ("street/06.jpg", "male", "street", "A man is standing next to a parked motorcycle.", None, ("man", "person")),
    ("court/07.jpg", "female", "tennis court", "A man holding a racket on a tennis court.", ("man", "woman"), ("man", "person")),
    ("court/08.jpg", "male", "tennis court", "A man is about to hit a tennis ball.", None, ("man", "person")),
    ("snow/09.jpg", "female", "snow", "A person on skis going down a snowy hill.", None, None),
    ("snow/10.jpg", "male", "snow", "A snowboarder in the air above a slope.", None, None),
    ("clinic/11.jpg", "male", "clinic", "A woman in a white coat is talking to a patient.", ("woman", "man"), ("woman", "person")),
    ("clinic/12.jpg", "female", "clinic", "A woman is holding a clipboard.", None, ("woman", "person")),
)  # fmt: skip
RATES = {  # MR_F, MR_M with intervals, in the manner of a real audit of 48 pictures
    "plain": ((0.375, 0.208, 0.583), (0.1666666666666667, 0.042, 0.333)),
    "align": ((0.0833333333333333, 0.0, 0.208), (0.0416666666666667, 0.0, 0.125)),
    "neutral": ((0.0416666666666667, 0.0, 0.125), (0.0, 0.0, 0.074)),
}
WORDS = {"man": "male", "woman": "female"}


def draw_picture(seed: int) -> bytes:
    """A small drawing of a figure in front of a coloured ground."""
    rng = random.Random(seed)
    tint = [rng.randint(110, 235) for _ in range(6)]
    image = Image.new("RGB", (240, 160), tuple(tint[:3]))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 112, 240, 160), fill=tuple(tint[3:]))
    for _ in range(3):
        x, y = rng.randint(0, 200), rng.randint(10, 90)
        draw.rectangle((x, y, x + rng.randint(20, 60), y + 40), fill=tuple(rng.randint(80, 220) for _ in range(3)))
    x = rng.randint(80, 150)
    draw.rounded_rectangle((x - 30, 84, x + 30, 175), 18, fill=tuple(rng.randint(40, 160) for _ in range(3)))
    draw.ellipse((x - 19, 38, x + 19, 86), fill=(222, 184, 150))
    draw.pieslice((x - 22, 32, x + 22, 80), 180, 360, fill=(60, 45, 35))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def make_estimate(name: str, value: float, low: float, high: float, **other: object) -> Estimate:
    given = {"level": 0.95, "n": 48, "unit": "picture", "largest": 1.0, "floor": 0.0}
    given["method"] = "percentile bootstrap of pictures, 2000 draws"
    return Estimate(name, value, low, high, **{**given, **other})


def composite(f: float, m: float) -> float:
    return math.hypot((f + m) / 2, f - m)


def make_label(prompt_id: str, text: str | None) -> Label:
    if text is None:
        return Label(prompt_id, 0, "gender", None, "error", 1.0)
    found = [WORDS[word] for word in text.lower().strip(".").split() if word in WORDS]
    reason = None if found else "neutral" if "person" in text else "none"
    return Label(prompt_id, 0, "gender", found[0] if found else None, reason, 1.0)


def make_sample(n: int, run: str) -> Sample:
    prompt_id, declared, _, text, aligned, neutral = PICTURES[n]
    if run == "plain":
        return Sample(prompt_id, 0, 1000 + n, text)
    if run == "neutral" and n == 11:
        return Sample(prompt_id, 0, 1000 + n, None, "PictureError: the file ends before the picture does")
    swap = aligned if run == "align" else neutral
    s = {"align": 1.0 if declared == "male" else -1.0, "neutral": 0.0}[run]
    claim = Claim(0.0, "neutral") if run == "neutral" else Claim(s * (0.97 - n / 100), "faces agree", 1)
    if n in (8, 9) and run == "align":
        claim = Claim(None, "no face", 0)
    if swap is None:
        return Sample(prompt_id, 0, 1000 + n, text, None, claim)
    old, new = swap
    start = text.lower().index(f" {old} ")
    alpha = (0.96 if WORDS[old] == "male" else -0.94) - n / 250
    edits = [
        Edit(
            1,
            start,
            start + 1 + len(new),
            f" {old}",
            f" {new}",
            alpha,
            s,
            -2.0,
            2.0 - n / 40,
            "gender",
            1.25,
            "contradicts the picture",
        )
    ]
    text = text.replace(f" {old} ", f" {new} ", 1)
    if n == 2:
        at = text.index(" his")
        after = " her" if run == "align" else " their"
        edits.append(Edit(8, at, at + len(after), " his", after, 0.71, s, -1.42, 1.3))
        text = text.replace(" his", after)
    if n == 6 and run == "align":
        text = text.replace("holding a racket", "playing tennis")
        edits.append(Edit(2, start + 6, start + 14, " playing", " playing", 0.08, s, -0.11, -0.11))
    passed = (Edit(0, 0, 1, " he", " he", -0.96, s, 0.0, 0.0, "gender", None, "agrees"),) if n % 2 else ()
    return Sample(prompt_id, 0, 1000 + n, text, None, claim, tuple(edits), passed, 12)


def make_run(run: str) -> Scored:
    samples = tuple(make_sample(n, run) for n in range(len(PICTURES)))
    labels = tuple(make_label(sample.prompt_id, sample.text) for sample in samples)
    (f, f_low, f_high), (m, m_low, m_high) = RATES[run]
    mid, spread = composite(f, m), (f_high - f_low) * 0.45
    estimates = (
        make_estimate("MR_F", f, f_low, f_high, n=24, floor=0.0),
        make_estimate("MR_M", m, m_low, m_high, n=24, floor=0.0),
        make_estimate("MR_O", (f + m) / 2, (f + m) / 4, (f + m) * 0.8),
        make_estimate("MR_C", mid, mid - spread if mid > spread else 0.0, mid + spread, largest=math.sqrt(1.25), floor=0.071),
    )  # fmt: skip
    settings = {
        "model": {"name": "captioner", "revision": "9a1f0c2e", "temperature": 0.0, "max_new_tokens": 24},
        "probe": "captioning",
        "mitigation": None if run == "plain" else {"name": run, "strength": 2.0, "cap": 4},
        "seed": 7,
        "evenhand": "0.1.0",
    }
    return Scored(
        run=run,
        settings=settings,
        attribute="gender",
        prompts=tuple(Prompt(p[0], "captioning", "", p[0], {"gender": p[1], "scene": p[2]}) for p in PICTURES),
        previews={p[0]: draw_picture(n) for n, p in enumerate(PICTURES)},
        samples=samples,
        labels=labels,
        estimates=estimates,
        counts={
            "pictures": len(samples),
            "captions": sum(sample.text is not None for sample in samples),
            "errors": sum(sample.error is not None for sample in samples),
            "said_both": 0,
            "said_neutral": sum(label.reason == "neutral" for label in labels),
        },
    )


def make_comparison(baseline: Scored, other: Scored) -> Comparison:
    changes: list[WordChange] = []
    for prompt_id, _, _, _, aligned, neutral in PICTURES:
        swap = aligned if other.run == "align" else neutral
        if swap and not (other.run == "neutral" and prompt_id.startswith("clinic/12")):
            changes.append(WordChange(prompt_id, *swap, True))
        if prompt_id.startswith("desk/03"):
            changes.append(WordChange(prompt_id, "his", "her" if other.run == "align" else "their", True))
        if prompt_id.startswith("court/07") and other.run == "align":
            changes.append(WordChange(prompt_id, "holding a racket", "playing tennis", False))
    estimates = []
    for old, new in zip(baseline.estimates, other.estimates, strict=True):
        name, gap, half = old.name, new.value - old.value, (old.high - old.low) * 0.4
        estimates.append(
            make_estimate(
                f"{name} difference",
                gap,
                gap - half,
                gap + half,
                n=old.n,
                largest=old.largest,
                floor=math.nan,
            )
        )
        if name == "MR_C":
            ratio = new.value / old.value
            estimates.append(
                make_estimate(f"{name} ratio", ratio, ratio * 0.4, ratio * 1.9, largest=math.inf, floor=math.nan)
            )
    reached = sum(change.reached for change in changes)
    counts = {
        "captions": len(PICTURES),
        "captions_changed": len({change.prompt_id for change in changes}),
        "changes": len(changes),
        "changes_reached": reached,
        "changes_elsewhere": len(changes) - reached,
    }
    return Comparison(baseline.run, other.run, tuple(estimates), tuple(changes), counts)


@pytest.fixture(scope="session")
def audit() -> Audit:
    """Runs plain, align and neutral, and both comparisons with plain."""
    runs = tuple(make_run(name) for name in RATES)
    return runs, tuple(make_comparison(runs[0], run) for run in runs[1:])


@pytest.fixture(scope="session")
def estimate() -> Callable[..., Estimate]:
    return make_estimate


@pytest.fixture(scope="session")
def drawn():
    """Three prompts with answers, quality, a failed picture, a second run and their comparison."""
    nurse_first = small_run(previews=0)
    answers = answers_of(
        nurse_first.prompts, shares=[(1, 0, 0.2), (1, 1, 0), (1, 0, 0)], n=40, pictures=nurse_first.labels["gender"]
    )
    quality = (Estimate("CLIP-S", 0.71, 0.70, 0.72, 0.95, 36, "picture", "normal", 2.5, math.nan),)
    first = small_run(answers={"gender": answers}, quality=quality)
    second = small_run("moved", nurse=5)
    return (first, second), (compared(first, second),)
