"""Records of drawn pictures with a hostile text wherever text comes from outside."""

import dataclasses

from evenhand.records import PictureComparison, Prompt, ScoredAnswers, ScoredPictures


def spoil_pictures(run: ScoredPictures, text: str) -> ScoredPictures:
    groups = {group: f"{group} {text}" for own in run.groups.values() for group in own}
    names = {name: f"{name} {text}" for name in run.groups}
    ids = {prompt.id: f"{prompt.id} {text}" for prompt in run.prompts}
    labels = {
        names[name]: tuple(_label(label, ids, groups, names[name], text) for label in told)
        for name, told in run.labels.items()
    }
    samples = [dataclasses.replace(sample, prompt_id=ids[sample.prompt_id]) for sample in run.samples]
    samples[0] = dataclasses.replace(samples[0], error=f"PictureError: {text}")
    return dataclasses.replace(
        run,
        run=f"{run.run} {text}",
        settings={"model": {"name": text, "revision": text, text: [1, 2.5, text, None, float("nan")]}, text: text},
        classifiers={names[name]: {text: text, "name": text} for name in run.classifiers},
        groups={names[name]: tuple(groups[group] for group in own) for name, own in run.groups.items()},
        targets={names[name]: target for name, target in run.targets.items()},
        denominator=text,
        prompts=tuple(_prompt(prompt, ids, text) for prompt in run.prompts),
        previews={(ids[at], k): b"<svg onload=x>" if k else jpeg for (at, k), jpeg in run.previews.items()},
        samples=tuple(samples),
        labels=labels,
        estimates={names[name]: _estimates(found, groups, text) for name, found in run.estimates.items()},
        per_prompt={
            names[name]: {ids[at]: _estimates(found, groups, text) for at, found in table.items()}
            for name, table in run.per_prompt.items()
        },
        quality=_estimates(run.quality, groups, text),
        answers={names[name]: _answers(told, names[name], groups, text) for name, told in run.answers.items()},
        caveats=(text, *run.caveats),
        counts={text: 3},
        prompts_sha256=text,
    )


def spoil_comparison(pair: PictureComparison, text: str) -> PictureComparison:
    return dataclasses.replace(
        pair,
        baseline=f"{pair.baseline} {text}",
        other=f"{pair.other} {text}",
        estimates={f"{name} {text}": found for name, found in pair.estimates.items()},
        moved={f"{name} {text}": {text: {text: 1, "male": 2}} for name in pair.moved},
        counts={text: 1},
    )


def _label(label, ids, groups, attribute, text):
    group = None if label.group is None else groups[label.group]
    reason = None if label.reason is None else text
    return dataclasses.replace(label, prompt_id=ids[label.prompt_id], attribute=attribute, group=group, reason=reason)


def _prompt(prompt, ids, text):
    facts = {"occupation": f"{prompt.facts['occupation']} {text}", text: text}
    return Prompt(ids[prompt.id], text, f"{prompt.text} {text}", text, facts)


def _estimates(found, groups, text):
    def name(old: str) -> str:
        return f"share {groups[old.removeprefix('share ')]}" if old.startswith("share ") else old

    kept = tuple(dataclasses.replace(one, name=name(one.name), method=text, unit=text) for one in found)
    return (*kept, *(dataclasses.replace(one, name=f"RD {text}") for one in kept[:1]))


def _answers(told: ScoredAnswers, attribute, groups, text) -> ScoredAnswers:
    ids = {prompt.id: f"{prompt.id} {text}" for prompt in told.prompts}
    return dataclasses.replace(
        told,
        settings={text: text},
        attribute=attribute,
        groups=tuple(groups[group] for group in told.groups),
        prompts=tuple(_prompt(prompt, ids, text) for prompt in told.prompts),
        samples=tuple(dataclasses.replace(one, prompt_id=ids[one.prompt_id], text=text) for one in told.samples),
        labels=tuple(_label(one, ids, groups, attribute, text) for one in told.labels),
        estimates=_estimates(told.estimates, groups, text),
        per_prompt={ids[at]: _estimates(found, groups, text) for at, found in told.per_prompt.items()},
        counts={text: 1},
    )


def spoil_all(value, text: str):
    """Any record with the text behind every string and name in it, and something else for every picture."""
    if dataclasses.is_dataclass(value):
        told = {field.name: spoil_all(getattr(value, field.name), text) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **told)
    if isinstance(value, dict):
        return {spoil_all(name, text): spoil_all(part, text) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return tuple(spoil_all(part, text) for part in value)
    if isinstance(value, bytes):
        return b"<svg onload=x>"
    return f"{value} {text}" if isinstance(value, str) else value
