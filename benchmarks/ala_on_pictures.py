"""What each switch of ALA does. In: labelled pictures, captioned pictures. Out: the ablation table, paired intervals.

The shipped captioner, and from the published update to our default one switch at a time; strengths and thresholds; the
same with a retrieved passage of the other perceived gender in the prompt. Every variant is paired with the plain
captions picture by picture, and `align` with `paper`. Caption utility (METEOR, CIDEr) is measured on the captioned
pictures, against what people wrote. Runs are kept: a stopped run goes on.

    python benchmarks/ala_on_pictures.py --data DIR [--captioned FILE] [--classifier DIR --texts FILE] [--only TEXT]
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evenhand import Comparison, Scored, audit, compare
from evenhand.attributes import load_attribute
from evenhand.classify.faces import FaceReader
from evenhand.metrics.caption import caption_utility, compare_caption_utility
from evenhand.metrics.edits import edit_rates
from evenhand.metrics.similarity import caption_similarity
from evenhand.mitigate.ala.ala import Ala, Several
from evenhand.mitigate.ala.picture.faces import FaceSignal
from evenhand.mitigate.ala.presets import align, nearest, neutral, paper
from evenhand.mitigate.ala.rules import AlignRule, NeutralRule
from evenhand.mitigate.ala.text.artefact import load_scorer
from evenhand.mitigate.ala.text.lexicon import WordScorer
from evenhand.mitigate.ala.weights import weights_from_tokens
from evenhand.models.captioner import load_captioner
from evenhand.models.clipcap import ClipCap
from evenhand.probes.coco import captioned as captioned_pictures
from evenhand.probes.coco import references

SHOWN = ("MR_C", "recall", "neutral_rate")
UTILITY = ("plain", "paper", "align", "align, neutral where unsure", "nearest", "neutral")
Mode = Ala | Several | None


def variants(classifier: Path | None, texts: Path | None, captioner: ClipCap) -> dict[str, Mode]:
    """From the published update to the default, then strengths and thresholds."""
    gender = load_attribute("gender")

    def step(
        name: str,
        rule: AlignRule,
        *,
        decay: float = 0.0,
        abstains: bool = True,
        continuation: Any = "emitted",
        guarded: bool = False,
    ) -> Ala:
        return Ala(
            name,
            gender,
            rule=rule,
            scorer=WordScorer(decay=decay),
            signal=FaceSignal(FaceReader(), gender) if abstains else guessing,
            continuation=continuation,
            guarded=guarded,
        )

    guessing = FaceSignal(FaceReader(doubtful=1.0), gender, certain=0.0)
    shifting = AlignRule(strength=2.0, replace=False)
    found: dict[str, Mode] = {"plain": None, "paper": paper()}
    if classifier is not None and texts is not None:
        found |= published(classifier, texts, captioner)
    found |= {
        "1 only on contradiction": step("s1", shifting, decay=1.0, abstains=False),
        "2 and of the drafted word": step("s2", shifting, abstains=False),
        "3 and abstaining where unsure": step("s3", shifting),
        "4 and replacing": step("s4", AlignRule()),
        "5 and going on from the draft": step("s5", AlignRule(), continuation="draft"),
        "align": align(),
        "align, unguarded": align(guarded=False),
        "align, emitted": align(continuation="emitted"),
        "align, neutral where unsure": align(rule=AlignRule(abstain="neutral")),
        "nearest": nearest(),
        "neutral": neutral(),
        "neutral, emitted": neutral(continuation="emitted"),
        "neutral, shifting": neutral(rule=NeutralRule(replace=False)),
        "align gender, neutral age": Several(align(), neutral(load_attribute("age"))),
        "neutral age": neutral(load_attribute("age")),
    }
    found |= {f"paper, lambda {x:g}": paper(strength=x) for x in (0.1, 0.5, 1.0, 5.0, 7.0)}
    found |= {f"align, lambda {x:g}": align(rule=AlignRule(strength=x)) for x in (0.1, 0.5, 1.0, 2.0, 20.0)}
    return found


def published(classifier: Path, texts: Path, captioner: ClipCap) -> dict[str, Mode]:
    """The published update with its own text classifier, and beta by integrated gradients, at several thresholds."""
    import csv

    from evenhand.mitigate.ala.importance import corpus_importance

    scorer: Any = load_scorer(classifier)
    groups = scorer.record.groups
    rows = [row for row in csv.DictReader(texts.open(encoding="utf-8")) if row["label"] in groups][:1000]
    ids = [captioner.tokenizer.encode(row["text"], add_special_tokens=False) for row in rows]
    labels = [groups.index(row["label"]) for row in rows]
    found: dict[str, Mode] = {}
    for name, literal in (("published sums", True), ("mean per occurrence", False)):
        beta = corpus_importance(scorer, ids, labels, paper=literal, steps=20)
        weights = weights_from_tokens("gender", groups, beta.token_ids, beta.beta[:, 0], captioner.tokenizer)
        for tau in (0.05, 0.1, 0.5) if literal else (0.1,):
            found[f"paper, own classifier, {name}, tau {tau:g}"] = paper(scorer=scorer, weights=weights, threshold=tau)
    return found


def rounded(estimate: Any) -> list[float]:
    """Value, low, high."""
    return [round(x, 4) for x in (estimate.value, estimate.low, estimate.high)]


def row(name: str, scored: Scored, plain: Scored, versus_paper: Comparison | None) -> dict[str, Any]:
    """One variant's figures, paired with plain and, where given, with paper."""
    by_name = {estimate.name: estimate for estimate in scored.estimates}
    figures: dict[str, Any] = {"variant": name, **{key: rounded(by_name[key]) for key in SHOWN}}
    unit = [prompt.facts.get("scene") or prompt.id for prompt in scored.prompts]
    figures |= {
        estimate.name: rounded(estimate)
        for estimate in edit_rates(scored.samples, unit, unit_name="scene", seed=0)
        if estimate.name in ("trigger_rate", "edited_token_rate", "kl_per_token")
    }
    figures["similarity"] = round(
        sum(caption_similarity(a.text or "", b.text or "") for a, b in zip(plain.samples, scored.samples, strict=True))
        / len(plain.samples),
        4,
    )
    if scored is not plain:
        comparison = compare(plain, scored)
        paired = {estimate.name: estimate for estimate in comparison.estimates}
        for key in ("MR_C ratio", "MR_C difference", "neutral_rate difference", "recall difference"):
            figures[key] = rounded(paired[key])
        figures |= {key: comparison.counts[key] for key in ("captions_changed", "changes", "changes_elsewhere")}
        words = Counter((change.before, change.after) for change in comparison.changes)
        figures["commonest"] = [[*pair, times] for pair, times in words.most_common(8)]
    if versus_paper is not None:
        named = {estimate.name: estimate for estimate in versus_paper.estimates}
        figures["versus paper"] = {key: rounded(named[f"{key} difference"]) for key in SHOWN}
    return figures


def utility(captioner: ClipCap, modes: Mapping[str, Mode], path: Path, out: Path) -> list[dict[str, Any]]:
    """METEOR and CIDEr of the modes on captioned pictures, and their difference to plain, paired."""
    wanted = references(str(path))
    prompts = captioned_pictures(str(path), load_attribute("gender"))
    said: dict[str, dict[str, str]] = {}
    rows = []
    for name in UTILITY:
        stored = out / f"utility-{name.replace(', ', '-').replace(' ', '-')}.json"
        if stored.is_file():
            said[name] = json.loads(stored.read_text("utf-8"))
        else:
            samples = []
            for i in range(0, len(prompts), captioner.batch_size):
                part = prompts[i : i + captioner.batch_size]
                samples += captioner.answer(part, seeds=[0] * len(part), intervention=modes[name])
            said[name] = {sample.prompt_id: sample.text or "" for sample in samples}
            stored.parent.mkdir(parents=True, exist_ok=True)
            stored.write_text(json.dumps(said[name]), "utf-8")
        figures: dict[str, Any] = {"variant": name, "pictures": len(prompts)}
        metrics = ("METEOR", "MaxMETEOR", "CIDEr")
        kept = {key: wanted[key] for key in said[name]}
        figures |= {e.name: rounded(e) for e in caption_utility(said[name], kept, seed=0, metrics=metrics)}
        if name != "plain":
            differences = compare_caption_utility(said["plain"], said[name], kept, seed=0, metrics=metrics)
            figures |= {e.name: rounded(e) for e in differences}
        if name not in ("plain", "paper"):
            against = compare_caption_utility(said["paper"], said[name], kept, seed=0, metrics=metrics)
            figures["versus paper"] = {e.name: [round(x, 6) for x in (e.value, e.low, e.high)] for e in against}
            print(name, "versus paper:", figures["versus paper"])
        figures["similarity"] = round(
            sum(caption_similarity(said["plain"][key], text) for key, text in said[name].items()) / len(said[name]), 4
        )
        rows.append(figures)
    return rows


def contexts(captioner: ClipCap, modes: Mapping[str, Mode], data: str, out: Path) -> list[dict[str, Any]]:
    """The arms of the retrieved passage: none, neutral, of the other perceived gender."""
    rows = []
    for arm in ("none", "neutral", "opposite"):
        plain: Scored | None = None
        for name in ("plain", "paper", "align", "neutral"):
            folder = out / f"context-{arm}-{name}"
            scored = audit(captioner, probe=f"context_{arm}", data=data, mitigate=modes[name], out=folder)
            plain = plain or scored
            rows.append({"arm": arm, **row(name, scored, plain, None)})
    return rows


def cells(figures: Mapping[str, Any], *keys: str) -> str:
    """Table cells of a row, value and interval."""
    shown = []
    for key in keys:
        value = figures.get(key, "")
        shown.append("{:.3f} [{:.3f}, {:.3f}]".format(*value) if isinstance(value, list) else str(value))
    return " | ".join(shown)


def main(
    data: Annotated[str, typer.Option(help="Folder with labels.csv.")],
    captioned: Annotated[Path | None, typer.Option(help="JSON of captioned pictures, for utility.")] = None,
    classifier: Annotated[Path | None, typer.Option(help="Folder of `ala-fit --kind paper`.")] = None,
    texts: Annotated[Path | None, typer.Option(help="The CSV it was fitted on, for beta.")] = None,
    only: Annotated[str, typer.Option(help="Variants whose name holds this text, plain and paper besides.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/ala"),
    results: Annotated[Path, typer.Option(help="Folder for the JSON.")] = Path("benchmarks/results"),
) -> None:
    """Caption every picture with every variant, print Markdown tables, write JSON."""
    captioner = load_captioner()
    modes = variants(classifier, texts, captioner)
    result: dict[str, Any] = {"ablation": [], "utility": [], "context": []}
    done: dict[str, Scored] = {}
    for name, mode in modes.items():
        if only not in name and name not in ("plain", "paper"):
            continue
        folder = out / name.replace(", ", "-").replace(" ", "-")
        done[name] = audit(captioner, probe="captioning", data=data, mitigate=mode, out=folder)
        versus = None if name in ("plain", "paper") else compare(done["paper"], done[name])
        result["ablation"].append(row(name, done[name], done["plain"], versus))
    shown = ("MR_C", "MR_C ratio", "recall", "neutral_rate", "trigger_rate", "edited_token_rate", "kl_per_token")
    counted = ("similarity", "captions_changed", "changes", "changes_elsewhere")
    print("| variant | " + " | ".join((*shown, *counted)) + " |\n|" + "---|" * (len(shown) + len(counted) + 1))
    for figures in result["ablation"]:
        print(f"| {figures['variant']} | {cells(figures, *shown, *counted)} |")
    if not only:
        result["context"] = contexts(captioner, modes, data, out)
        print("\n| arm | variant | MR_C | MR_C ratio | neutral_rate |\n|---|---|---|---|---|")
        for figures in result["context"]:
            print(
                f"| {figures['arm']} | {figures['variant']} | {cells(figures, 'MR_C', 'MR_C ratio', 'neutral_rate')} |"
            )
        if captioned is not None:
            result["utility"] = utility(captioner, modes, captioned, out)
            keys = ("METEOR", "METEOR difference", "CIDEr", "CIDEr difference", "MaxMETEOR difference", "similarity")
            print("\n| variant | " + " | ".join(keys) + " |\n|" + "---|" * (len(keys) + 1))
            for figures in result["utility"]:
                print(f"| {figures['variant']} | {cells(figures, *keys)} |")
        results.mkdir(parents=True, exist_ok=True)
        (results / "ala_on_pictures.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
