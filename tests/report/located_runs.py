"""Two made-up locations: one of two groups with everything, one of three groups without what is optional."""

import io

from PIL import Image, ImageDraw

from evenhand.located import Evidence, Example, HeatMap, Located, LocatedPrompt, Part, Probe, Published, RoundTrip
from evenhand.records import Estimate

GROUPS = ("male", "female")
JEFFREYS, BOOTSTRAP = "Jeffreys interval", "Bayesian bootstrap of pictures within prompts, 2000 draws"

# name -> share of male: by likelihood, shown, answered; share of answers that name a group; neutral pictures' JSD
PROMPTS = {
    "plumber": (0.97, 0.98, 0.62, 0.10, (0.004, 0.611)),
    "software engineer": (0.90, 0.95, 0.55, 0.05, (0.012, 0.493)),
    "chief executive officer of a company": (0.82, 0.90, 0.70, 0.30, (0.028, 0.401)),
    "teacher": (0.31, 0.40, 0.48, 0.62, (0.233, 0.081)),
    "nurse": (0.04, 0.06, 0.20, 0.55, (0.571, 0.007)),
    "clerk": (0.52, 0.58, 0.50, 0.90, (0.139, 0.128)),
}
PICTURES = 40


def estimate(
    name, value, half=0.05, *, n=40, unit="picture", largest=1.0, method=JEFFREYS, low=None, high=None, floor=0.0
):
    low = max(0.0, value - half) if low is None else low
    high = min(largest, value + half) if high is None else high
    return Estimate(name, value, low, high, 0.95, n, unit, method, largest, floor)


def signed(name, value, half=0.04, **other):
    return estimate(name, value, low=value - half, high=value + half, method=BOOTSTRAP, **other)


def shares(values, groups=GROUPS, half=0.11):
    return {group: estimate(f"share {group}", value, half) for group, value in zip(groups, values, strict=True)}


def jpeg(shade: int, *, blurred: bool = False) -> bytes:
    image = Image.new("RGB", (96, 96), (90 + shade * 13 % 120, 150, 190 - shade * 7 % 90))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((18, 58, 78, 110), 16, fill=(40 + shade * 29 % 150, 70, 90))
    draw.ellipse((32, 16, 64, 62), fill=(225 - shade * 9 % 110, 182 - shade * 8 % 90, 150 - shade * 6 % 70))
    if blurred:
        image = image.resize((32, 32)).resize((96, 96))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def prompt(name: str) -> LocatedPrompt:
    codes, shown, answered, rate, (near, far) = PROMPTS[name]
    return LocatedPrompt(
        name=name,
        pictures=PICTURES,
        codes=shares((codes, 1 - codes), half=0.08),
        shown=shares((shown, 1 - shown)),
        answered=shares((answered, 1 - answered), half=0.2) if name != "plumber" else {},
        answer_rate=estimate("answer_rate", rate, 0.12, unit="answer"),
        partly_aligned=name in ("plumber", "software engineer"),
        divergence={
            "male": estimate("JSD male", near, 0.01, largest=0.6931, method=BOOTSTRAP),
            "female": estimate("JSD female", far, 0.04, largest=0.6931, method=BOOTSTRAP),
        },
        published={"male": Published(0.101, 0.098, 0.31), "female": Published(0.137, 0.099, 0.001)},
        nearest="male" if near < far else "female",
    )


def probe(place: str, accuracy: float, *, control: bool = False, features: int = 256) -> Probe:
    return Probe(
        place=place,
        control=control,
        features=features,
        accuracy=estimate("accuracy", accuracy, 0.03, n=400, method="Wilson interval"),
        precision=estimate("precision", accuracy - 0.004, 0.03, n=400),
        recall=estimate("recall", accuracy - 0.002, 0.03, n=400),
        f1=estimate("F1", accuracy - 0.003, 0.03, n=400),
        recalls={
            "male": estimate("recall male", accuracy + 0.01, 0.04, n=200),
            "female": estimate("recall female", accuracy - 0.014, 0.04, n=200),
        },
        recall_gap=estimate("recall gap", 0.024, low=0.0, high=0.071, floor=0.018, n=400, method=BOOTSTRAP),
        permuted=estimate("accuracy, labels exchanged", 0.502, 0.05, n=400),
        majority=0.5,
        curve={
            size: estimate("accuracy", 0.5 + (accuracy - 0.5) * at, 0.05, n=400)
            for size, at in ((50, 0.5), (100, 0.7), (200, 0.86), (400, 0.95), (800, 1.0))
        },
    )


def heat(what: str, pair: tuple[str, str], top: float, *, side: int = 8) -> HeatMap:
    """A hill around a face: the nearer to the fourth row and fifth column, the larger."""
    far = [((at // side - 3) ** 2 + (at % side - 4) ** 2) / 6 for at in range(side * side)]
    values = tuple(round(top / (1 + one) ** 2, 6) for one in far)
    low = tuple(0.0 if value < top * 0.05 else value * 0.7 for value in values)
    return HeatMap(what, pair, side, side, values, low, tuple(value * 1.4 for value in values), 0.95, 6, BOOTSTRAP)


def decoder_evidence() -> tuple[Evidence, ...]:
    return (
        Evidence("against", "Codes and pictures agree in total variation", signed("TV difference", 0.012, 0.02)),
        Evidence(
            "for", "Pictures asked to show female show it less often than male", signed("fidelity difference", -0.06)
        ),
        Evidence("open", "Labelled pictures that the classifier reads otherwise after the round trip"),
    )


def full() -> Located:
    model = estimate("TV codes", 0.312, 0.06, floor=0.021, n=6, unit="prompt", method=BOOTSTRAP)
    return Located(
        run="runs/janus-pro-1b",
        settings={
            "model": {"name": "deepseek-ai/Janus-Pro-1B", "revision": "960ab33", "temperature": 1.0, "guidance": 1.0},
            "pictures": {"neutral": 40, "asked": 20},
            "classifier": "faces",
            "seed": 7,
        },
        attribute="gender",
        groups=GROUPS,
        target=(0.5, 0.5),
        margin=0.05,
        level=0.95,
        attributed=("language model",),
        parts=(
            Part(
                "language model",
                "biased",
                "The codes alone, read by the model's own likelihood, lie farther from the target than the margin.",
                model,
                (
                    Evidence("for", "Distance of shares by likelihood to the target", model),
                    Evidence(
                        "for", "Prompts whose nearest group is the one most shown", estimate("agreement", 0.83, 0.3)
                    ),
                    Evidence("open", "Guidance was 1: at another guidance the codes may differ"),
                ),
            ),
            Part(
                "picture decoder",
                "no evidence",
                "Pictures show what their codes say; a shift of the margin would have been seen.",
                signed("shift", 0.012, 0.021, n=240),
                decoder_evidence(),
            ),
            Part(
                "picture encoder",
                "not enough evidence",
                "The round trip turned too few pictures to tell a shift of the margin from none.",
                signed("change", 0.02, 0.07, n=120),
                (Evidence("open", "Change of the share of male by the round trip", signed("change", 0.02, 0.07)),),
            ),
        ),
        totals={"codes": model, "shown": estimate("TV shown", 0.341, 0.05, n=6, unit="prompt", method=BOOTSTRAP)},
        prompts=tuple(prompt(name) for name in PROMPTS),
        shift={"male": signed("shift male", 0.012, n=240), "female": signed("shift female", -0.012, n=240)},
        turned={
            "male": {"male": 133, "female": 5, "no face": 4},
            "female": {"male": 11, "female": 84, "uncertain": 3},
        },
        fidelity={
            "male": estimate("fidelity male", 0.97, 0.03, n=120),
            "female": estimate("fidelity female", 0.91, n=120),
        },
        obeyed={
            "male": estimate("obeyed male", 0.99, 0.01, n=120),
            "female": estimate("obeyed female", 0.96, 0.03, n=120),
        },
        gap=(
            estimate("gap", 0.271, 0.08, n=240, unit="answer or picture", method=BOOTSTRAP),
            signed("gap male", -0.271, 0.08, n=240),
            signed("gap female", 0.271, 0.08, n=240),
        ),
        agreement=estimate(
            "agreement", 5 / 6, low=0.42, high=0.98, floor=0.5, n=6, unit="prompt", method="Clopper-Pearson interval"
        ),
        two_samples={
            f"{group}, {what}": (
                estimate("accuracy", accuracy, 0.07, n=120),
                estimate("TV at least", 2 * accuracy - 1, 0.14, n=120),
                estimate("JSD at least", accuracy - 0.48, 0.05, n=120, largest=0.6931),
            )
            for group, what, accuracy in (
                ("male", "codes", 0.61),
                ("female", "codes", 0.74),
                ("female", "pixels", 0.70),
            )
        },
        probes=(
            probe("encoder", 0.952),
            probe("latents", 0.931, features=8),
            probe("codes", 0.912, features=8),
            probe("projected", 0.915, features=2048),
            probe("histogram", 0.861, features=16384),
            probe("pixels", 0.744, control=True, features=768),
            probe("shuffled encoder", 0.702, control=True),
        ),
        round_trip=RoundTrip(
            said={"male": {"male": 58, "female": 2}, "female": {"male": 4, "female": 55, "no face": 1}},
            flips={
                "male": {"male": 56, "female": 3, "no face": 3},
                "female": {"male": 6, "female": 49, "no face": 2},
                "no face": {"no face": 1},
            },
            change={
                "male": signed("change male", 0.02, 0.07, n=114),
                "female": signed("change female", -0.02, 0.07, n=114),
            },
            p_value=0.508,
            pictures=120,
        ),
        maps=(
            heat("enters", ("neutral", "male"), 0.0061),
            heat("enters", ("neutral", "female"), 0.0192),
            heat("enters", ("male", "female"), 0.0254),
            heat("differs", ("neutral", "female"), 0.0912),
        ),
        examples=(
            *(
                Example("drawn", name, codes, shown, (jpeg(at),))
                for at, (name, codes, shown) in enumerate(
                    (
                        ("plumber", "male", "male"),
                        ("nurse", "female", "male"),
                        ("clerk", "female", "female"),
                        ("teacher", "male", "no face"),
                    )
                )
            ),
            Example("asked", "nurse", "female", "female", (jpeg(7),)),
            Example("asked", "plumber", "female", "male", (jpeg(8),)),
            *(
                Example("round trip", "", "female", after, (jpeg(at), jpeg(at, blurred=True)))
                for at, after in ((9, "male"), (10, "female"))
            ),
        ),
        caveats=(
            "Pictures were drawn at guidance 1; a guided model draws from another distribution.",
            "The classifier was not calibrated on drawn pictures.",
        ),
        counts={"neutral_pictures": 240, "asked_pictures": 240, "labelled_pictures": 120, "errors": 0},
    )


AGES = ("young", "middle-aged", "old")


def bare() -> Located:
    """Three groups; no likelihood, no labelled picture, no answer."""
    said = {"judge": (0.10, 0.55, 0.35), "nurse": (0.78, 0.20, 0.02), "guard": (0.40, 0.52, 0.08)}
    return Located(
        run="runs/black-box",
        settings={"model": {"name": "somebody's server"}},
        attribute="age",
        groups=AGES,
        target=(1 / 3, 1 / 3, 1 / 3),
        margin=0.05,
        level=0.9,
        attributed=(),
        parts=tuple(
            Part(name, "not enough evidence", "The model gives no likelihood of its codes.", None, ())
            for name in ("language model", "picture decoder", "picture encoder")
        ),
        totals={"shown": estimate("TV shown", 0.287, 0.07, n=3, unit="prompt")},
        prompts=tuple(
            LocatedPrompt(name, 40, {}, shares(values, AGES), {}, None, None, {}, {}, None)
            for name, values in said.items()
        ),
        shift={},
        turned={},
        fidelity={group: estimate(f"fidelity {group}", 0.8, 0.1) for group in AGES},
        obeyed={},
        gap=(),
        agreement=None,
        two_samples={group: (estimate("accuracy", 0.64, 0.08),) for group in AGES},
        probes=(),
        round_trip=None,
        maps=(),
        examples=(),
        caveats=(),
        counts={},
    )
