"""The model around a model: what is asked for, what comes out, what passes through and what is refused."""

from dataclasses import replace
from math import sqrt

import pytest
from obeying import GENDER, ColourLabels, Obeying, neutral, shown

from evenhand.attributes import load_attribute
from evenhand.classify.pictures.people import PeopleLabels
from evenhand.errors import BadInputError, LedgerError
from evenhand.ledger import Ledger
from evenhand.mitigate.sampling import BalancedModel
from evenhand.models.protocol import AnsweringModel, CodeModel, ContinuingModel, ImageModel, PaidModel
from evenhand.pipeline.drawing import draw, run_name
from evenhand.pipeline.pictures import score_pictures
from evenhand.records import Prompt

OBEDIENT = {"male": {"male": 1.0}, "female": {"female": 1.0}}
PARTLY = {"male": {"male": 1.0}, "female": {"female": 0.6, "male": 0.4}}
"""Of women asked for, 4 of 10 are drawn as men."""
BIASED = {"male": 0.95, "female": 0.05}


def batches(model, prompts, seeds):
    size = model.batch_size
    return [
        sample
        for start in range(0, len(prompts), size)
        for sample in model.draw(prompts[start : start + size], seeds=seeds[start : start + size])
    ]


def test_strength_0_is_the_model():
    alone, balanced = Obeying(OBEDIENT, BIASED), BalancedModel(Obeying(OBEDIENT, BIASED), GENDER, strength=0)
    prompts = [neutral(), Prompt("free", "mine", "a dog", None)]
    assert balanced.draw(prompts, seeds=[1, 2]) == alone.draw(prompts, seeds=[1, 2])


def test_the_sentence_is_what_a_model_of_texts_is_given():
    inner = Obeying(OBEDIENT, BIASED, batch_size=8)
    samples = BalancedModel(inner, GENDER).draw([neutral()] * 8, seeds=range(8))
    sentences = {f"a photo of the face of a {group} nurse, a person" for group in GENDER.groups}
    assert set(inner.texts) == sentences
    assert [sample.text for sample in samples] == inner.texts
    assert [sample.prompt_id for sample in samples] == ["nurse/neutral"] * 8


def test_two_attributes_are_named_both():
    inner = Obeying(OBEDIENT, BIASED)
    skin = load_attribute("skin_tone")
    BalancedModel(inner, [GENDER, skin]).draw([neutral()] * 60, seeds=range(60))
    assert set(inner.texts) == {
        f"a photo of the face of a {g} {s} nurse, a person" for g in GENDER.groups for s in skin.groups
    }


def test_the_same_prompt_and_seed_give_the_same_picture_in_every_batch():
    prompts, seeds = [neutral(), neutral("pilot")] * 10, list(range(20))
    model = BalancedModel(Obeying(OBEDIENT, BIASED), GENDER)
    together = model.draw(prompts, seeds=seeds)
    assert model.replayable
    assert (
        tuple(reversed([model.draw([p], seeds=[s])[0] for p, s in zip(prompts[::-1], seeds[::-1], strict=True)]))
        == together
    )


def test_without_a_verdict_obedience_decides_and_with_one_the_target_is_met():
    prompts, seeds = [neutral()] * 400, list(range(400))
    blind = shown(batches(BalancedModel(Obeying(PARTLY, BIASED), GENDER), prompts, seeds))
    # Half are asked as women and 6 of 10 of these shown: .3 of 400, standard deviation sqrt(400 * .3 * .7) = 9.2.
    assert abs(blind["female"] - 120) < 4.5 * 9.2
    # With quota women are asked for until they are level: the lead of men, d, falls by 1 with probability .6 and rises
    # with .4, and from below it comes back at once. P(d >= x) is about (.4 / .6)^x: 20 is 3e-4.
    quota = shown(batches(BalancedModel(Obeying(PARTLY, BIASED), GENDER, labeller=ColourLabels()), prompts, seeds))
    assert -2 <= quota["male"] - quota["female"] <= 20
    # As much of each prompt: nothing is carried over from one prompt to another.
    model = BalancedModel(Obeying(PARTLY, BIASED, batch_size=8), GENDER, labeller=ColourLabels())
    both = batches(model, [*prompts, *[neutral("pilot")] * 400], [*seeds, *seeds])
    for part in (both[:400], both[400:]):
        # Of a batch of 8 that goes on with a wrong guess at most 8 more.
        assert -10 <= shown(part)["male"] - shown(part)["female"] <= 28
    assert not model.replayable


def test_a_target_that_is_not_even():
    model = BalancedModel(Obeying(PARTLY, BIASED), GENDER, target="male=0.7,female=0.3", labeller=[ColourLabels()])
    # Drift of what is lacking of women, in pictures: -.3 where they are asked for, +.3 where men are; x in excess has a
    # probability of about exp(-2 * .3 / .24 * x) = exp(-2.5 x): 5 is 4e-6.
    assert abs(shown(batches(model, [neutral()] * 300, list(range(300))))["female"] - 90) <= 5


def test_pictures_without_a_verdict_and_failures_count_as_nothing_shown():
    half = {"male": {"male": 1.0}, "female": {"female": 0.5, "nobody": 0.3, "fails": 0.2}}
    model = BalancedModel(Obeying(half, BIASED), GENDER, labeller=ColourLabels())
    samples = batches(model, [neutral()] * 300, list(range(300)))
    told = shown(samples)
    assert abs(told["male"] - told["female"]) <= 10
    # Two of three are asked as women, so one of three shows nobody: 200 +- 4.5 sqrt(300 * 2 / 9).
    assert abs(sum(told.values()) - 200) < 4.5 * sqrt(300 * 2 / 9)


def test_prompts_that_name_a_group_are_left_alone():
    inner = Obeying(OBEDIENT, BIASED)
    named = replace(
        neutral(), id="nurse/male", text="a photo of a male nurse", facts={**neutral().facts, "asked": "male"}
    )
    labels = ColourLabels()
    samples = BalancedModel(inner, GENDER, labeller=labels).draw([named] * 3, seeds=[1, 2, 3])
    assert inner.texts == ["a photo of a male nurse"] * 3
    assert [sample.text for sample in samples] == [None] * 3
    assert labels.read == 0


def test_a_prompt_without_facts_is_one_samples_error():
    model = BalancedModel(Obeying(OBEDIENT, BIASED), GENDER, labeller=ColourLabels())
    samples = model.draw([neutral(), Prompt("free", "mine", "a person", None), neutral("pilot")], seeds=[1, 2, 3])
    assert [sample.error is None for sample in samples] == [True, False, True]
    assert samples[1].error.startswith("BadInputError: prompt 'free': it has no occupation and no template")
    assert "probe occupations" in samples[1].error
    assert (samples[1].prompt_id, samples[1].seed, samples[1].image) == ("free", 2, None)


def test_what_is_passed_on_and_what_is_not():
    class Rich(Obeying):
        code_shape, codebook_size = (2, 2), 4

        def answer_about(self, questions, pictures, *, seeds):
            return ("male",) * len(questions)

        def estimate_cost(self, pictures):
            return f"{pictures} coins"

        def log_prob(self, texts, codes, *, guidance=None): ...

        generate = encode = decode = features = log_prob

    plain, rich = (BalancedModel(made(OBEDIENT, BIASED), GENDER) for made in (Obeying, Rich))
    assert isinstance(plain, ImageModel)
    assert isinstance(plain, ContinuingModel)
    assert not isinstance(plain, AnsweringModel | PaidModel)
    assert isinstance(rich, AnsweringModel)
    assert rich.answer_about(["?"], [None], seeds=[1]) == ("male",)
    assert isinstance(rich, PaidModel)
    assert rich.estimate_cost(3) == "3 coins"
    assert isinstance(Rich(OBEDIENT, BIASED), CodeModel)
    assert not isinstance(rich, CodeModel)


def test_a_seed_check_says_whether_it_can_be_replayed():
    class Server(Obeying):
        replayable = False

        def check_seed(self):
            self.replayable = True
            return "checked"

    model = BalancedModel(Server(OBEDIENT, BIASED), GENDER)
    assert not model.replayable
    assert model.check_seed() == "checked"
    assert model.replayable
    quota = BalancedModel(Server(OBEDIENT, BIASED), GENDER, labeller=ColourLabels())
    quota.check_seed()
    assert not quota.replayable


def test_settings_say_how_and_the_revision_changes_with_them():
    inner = Obeying(OBEDIENT, BIASED)
    made = [
        BalancedModel(inner, GENDER),
        BalancedModel(inner, GENDER, strength=0),
        BalancedModel(inner, GENDER, target={"male": 0.7, "female": 0.3}),
        BalancedModel(inner, GENDER, labeller=ColourLabels()),
        BalancedModel(inner, GENDER, run="occupations-0"),
    ]
    assert len({model.revision for model in made}) == 5
    assert made[2].settings["kind"] == "fake"
    assert made[2].settings["balance"] == {
        "attributes": ["gender"],
        "target": {"male": 0.7, "female": 0.3},
        "strength": 1.0,
        "planned for": None,
        "quota": None,
    }
    assert made[3].settings["balance"]["quota"] == [{"attribute": "gender", "name": "colour"}]
    assert BalancedModel(inner, GENDER).revision == made[0].revision


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.5}, "takes a text and nothing else"),
        ({"strength": -1.0}, "allowed: 0 for the model as it is"),
        ({"strength": float("nan")}, "allowed: 0 for the model as it is"),
        ({"target": "male=1"}, "one for each of male, female"),
        ({"labeller": ColourLabels(), "strength": 0}, "strength 0"),
        ({"labeller": ColourLabels(), "run": "occupations-0"}, "no run"),
        ({"labeller": [ColourLabels(), ColourLabels()]}, "one labeller for each of gender"),
        ({"labeller": []}, "one labeller for each of gender"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(BadInputError, match=message):
        BalancedModel(Obeying(OBEDIENT, BIASED), GENDER, **options)


def test_labels_by_people_are_no_quota(tmp_path):
    (tmp_path / "labels.csv").write_text("prompt_id,k,attribute,group,rater\nnurse/neutral,0,gender,male,a\n")
    people = PeopleLabels(tmp_path / "labels.csv", GENDER)
    with pytest.raises(BadInputError, match="labels by people"):
        BalancedModel(Obeying(OBEDIENT, BIASED), GENDER, labeller=people)


def test_seeds_are_one_a_prompt():
    with pytest.raises(BadInputError, match="got 1 for 2 prompts"):
        BalancedModel(Obeying(OBEDIENT, BIASED), GENDER).draw([neutral()] * 2, seeds=[1])


class TestRuns:
    """Through run folders: planned groups, and quotas that go on where they stopped."""

    @pytest.fixture
    def listed(self, tmp_path):
        (tmp_path / "two.txt").write_text("nurse\npilot\n")
        return str(tmp_path / "two.txt")

    def drawn(self, folder):
        ledger = Ledger.open(folder)
        return {
            prompt.id: [s for s in ledger.samples(pictures=True) if s.prompt_id == prompt.id]
            for prompt in ledger.prompts()
        }

    def test_planned_groups_are_even_in_a_run(self, tmp_path, listed):
        model = BalancedModel(Obeying(OBEDIENT, BIASED, batch_size=7), GENDER, run=run_name("occupations", 0))
        draw(model, probe="occupations", data=listed, out=tmp_path / "run", samples=30)
        for samples in self.drawn(tmp_path / "run").values():
            assert shown(samples) == {"male": 15, "female": 15}
        assert Ledger.open(tmp_path / "run").settings["replayable"] is True

    def test_a_quota_that_was_stopped_ends_as_one_that_was_not(self, tmp_path, listed):
        obeyed = {"male": {"male": 0.9, "nobody": 0.1}, "female": {"female": 0.5, "male": 0.3, "nobody": 0.2}}

        class Stopping(Obeying):
            left = 1000

            def draw(self, prompts, *, seeds):
                self.left -= len(prompts)
                if self.left < 0:
                    raise KeyboardInterrupt
                return super().draw(prompts, seeds=seeds)

        def drawing(left=1000):
            inner = Stopping(obeyed, BIASED, batch_size=4)
            inner.left = left
            return BalancedModel(inner, GENDER, labeller=ColourLabels())

        given = {"probe": "occupations", "data": listed, "samples": 40}
        draw(drawing(), out=tmp_path / "whole", **given)
        with pytest.raises(KeyboardInterrupt):
            draw(drawing(left=24), out=tmp_path / "stopped", **given)
        with pytest.raises(KeyboardInterrupt):
            draw(drawing(left=30), out=tmp_path / "stopped", **given)
        draw(drawing(), out=tmp_path / "stopped", **given)
        assert self.drawn(tmp_path / "stopped") == self.drawn(tmp_path / "whole")
        # One model may draw two runs: what it counted in the first is forgotten in the second.
        again = drawing()
        draw(again, out=tmp_path / "first", **given)
        draw(again, out=tmp_path / "second", **given)
        assert self.drawn(tmp_path / "second") == self.drawn(tmp_path / "whole")

    def test_a_run_that_is_topped_up_learns_what_is_there(self, tmp_path, listed):
        labels = ColourLabels()
        for samples in (20, 60):
            model = BalancedModel(Obeying(PARTLY, BIASED, batch_size=4), GENDER, labeller=labels)
            draw(model, probe="occupations", data=listed, out=tmp_path / "run", samples=samples)
        assert labels.read == 2 * 20 + 2 * 60  # those of the first call twice
        for drawn in self.drawn(tmp_path / "run").values():
            told = shown(drawn)
            assert -6 <= told["male"] - told["female"] <= 24  # as above, and a batch of 4
        draw(model, probe="occupations", data=listed, out=tmp_path / "run", samples=60)
        assert labels.read == 2 * 20 + 2 * 60  # nothing is missing: nothing is read

    def test_the_report_says_so(self, tmp_path, listed):
        given = {"probe": "occupations", "data": listed, "samples": 30}
        told = {}
        for name, options in {
            "plain": {},
            "run": {"run": "occupations-0"},
            "quota": {"labeller": ColourLabels()},
        }.items():
            model = BalancedModel(Obeying(OBEDIENT, BIASED, batch_size=8), GENDER, **options)
            draw(model, out=tmp_path / name, **given)
            told[name] = " ".join(score_pictures(tmp_path / name, [ColourLabels()]).caveats)
        assert all("was balanced while it drew" in caveats for caveats in told.values())
        assert ["intervals and floors" in told[name] for name in ("plain", "run", "quota")] == [False, True, True]
        assert ["another batch size" in told[name] for name in ("plain", "run", "quota")] == [False, False, True]
        assert not any("honour seeds" in caveats for caveats in told.values())

    def test_pictures_that_were_not_balanced_are_not_counted(self):
        model = BalancedModel(Obeying(PARTLY, BIASED), GENDER, labeller=ColourLabels())
        stored = Obeying(PARTLY, BIASED).draw([neutral()], seeds=[1])
        with pytest.raises(LedgerError, match="names no group of the target"):
            model.continue_from([neutral()], stored)
        BalancedModel(Obeying(PARTLY, BIASED), GENDER).continue_from([neutral()], stored)


def test_the_miniature_draws_nurses_evenly():
    from evenhand.classify.pictures.labeller import PictureLabeller
    from evenhand.miniature.judge import load_judge
    from evenhand.miniature.model import load_miniature

    # Declared: 5 % of nurses are men. At strength .7 most sentences are followed; 48 pictures in batches of 8, and the
    # last batch may miss by all of its pictures.
    labels = PictureLabeller(load_judge("gender"), GENDER)
    model = BalancedModel(load_miniature(batch_size=8), GENDER, strength=0.7, labeller=labels)
    told = [label.group for label in labels.label(batches(model, [neutral()] * 48, list(range(48))))]
    assert abs(told.count("male") - told.count("female")) <= 8
