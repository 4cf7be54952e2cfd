"""The trainer on tiny Janus and Emu3 of the real classes: losses by hand, resume, a full disk, other runs."""

import json
import math

import numpy as np
import pytest
import torch
from training_config import config, losses
from transformers import EarlyStoppingCallback, TrainerCallback

from evenhand.attributes import load_attribute
from evenhand.errors import ArtefactError, BadInputError, ChangedRunError, LedgerError
from evenhand.mitigate.bpo.adapters import lora_config
from evenhand.mitigate.bpo.trainer import BPOTrainer
from evenhand.mitigate.bpo.watch import HeldOutAudit
from evenhand.records import Label, Prompt

KINDS = ("janus", "emu3")


def mean_of(values):
    return sum(values) / len(values)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize(("guidance", "before"), [(1.0, None), (2.5, None), (3.0, 2.0), (1.0, 2.0)])
def test_the_first_loss_is_that_of_the_models_own_likelihoods(tiny, make_tuples, tmp_path, kind, guidance, before):
    model = tiny.made(kind)
    asked_at = guidance if before is None else before
    tuples = make_tuples(model, 2)
    neutral = [
        model.log_prob([one.prompt] * 2, torch.from_numpy(one.codes).long(), guidance=guidance).detach()
        for one in tuples.tuples
    ]
    asked = [
        model.log_prob(list(one.asked), torch.from_numpy(one.codes).long(), guidance=asked_at).detach().sum(-1)
        for one in tuples.tuples
    ]
    wanted = []
    for told, reference in zip(neutral, asked, strict=True):
        share = told.sum(-1) - reference
        delta = float(share[0] - share[1])
        balance = math.log(1 + (1 / (1 + math.exp(-delta)) - 0.5) ** 2)
        wanted.append(balance + 0.3 * -float(told.mean()))
    args = config(
        tmp_path, max_steps=1, likelihood="pictures", nll_weight=0.3, guidance=guidance, reference_guidance=before
    )
    trainer = BPOTrainer(model, args, tuples, peft_config=lora_config(model.family, r=2))
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(mean_of(wanted), rel=1e-4)


@pytest.mark.parametrize(("guidance", "asked_at"), [(1.0, None), (3.0, None), (3.0, 1.0)])
def test_the_first_divergence_is_that_of_the_asked_prompts(tiny, make_tuples, tmp_path, kind, guidance, asked_at):
    # log m(y) by the chain rule over all codes is log of the mean of p(y | asked): the first step's sum, by hand.
    model = tiny.made(kind)
    tuples = make_tuples(model, 1)
    one = tuples.tuples[0]
    codes = torch.from_numpy(one.codes).long()
    with torch.no_grad():
        every = [model.logits([text] * 2, codes, guidance=asked_at or guidance).log_softmax(-1) for text in one.asked]
        own = model.logits([one.prompt] * 2, codes, guidance=guidance).log_softmax(-1)
    wanted = []
    for k in range(2):
        along = [each[k].gather(-1, codes[k][:, None])[:, 0].cumsum(0) for each in every]
        total = 0.0
        for t in range(codes.shape[1]):
            before = torch.tensor([0.0 if t == 0 else float(each[t - 1]) for each in along]).softmax(0)
            mixture = sum(share * each[k, t].exp() for share, each in zip(before, every, strict=True))
            total += float((mixture * (mixture.log() - own[k, t])).sum())
        wanted.append(total)
    weights = {"guidance": guidance, "reference_guidance": asked_at}
    args = config(tmp_path, max_steps=1, loss_type="sft", per_device_train_batch_size=1, **weights)
    trainer = BPOTrainer(model, args, tuples, peft_config=lora_config(model.family, r=2))
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(mean_of(wanted), rel=1e-3)


def test_the_other_branch_of_guidance_is_trained_without_any(tiny, make_tuples, tmp_path):
    # A tuple without its prompt is compared at weight 1, whatever the weight of the others: the same first loss.
    first = {}
    for guidance, before in ((1.0, 1.0), (4.0, 2.0)):
        model = tiny.made("janus")
        tuples = make_tuples(model, 2)
        weights = {"guidance": guidance, "reference_guidance": before}
        args = config(tmp_path / str(guidance), max_steps=1, loss_type="sft", condition_dropout=1 - 1e-9, **weights)
        trainer = BPOTrainer(model, args, tuples, peft_config=lora_config(model.family, r=2))
        trainer.train()
        first[guidance] = losses(trainer)[0]
    assert first[4.0] == pytest.approx(first[1.0], rel=1e-5)


@pytest.mark.parametrize("guidance", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_none(tmp_path, guidance):
    for name in ("guidance", "reference_guidance"):
        with pytest.raises(BadInputError, match=rf"^{name}: got .*allowed: above 0"):
            config(tmp_path, **{name: guidance})


def test_choices_that_the_host_refuses(tiny, make_tuples, tmp_path):
    with pytest.raises(BadInputError, match="load_best_model_at_end"):
        config(tmp_path, load_best_model_at_end=True, save_strategy="steps")
    with pytest.raises(BadInputError, match=r"arguments of training: .*nowhere"):
        config(tmp_path, optim="nowhere")
    with pytest.raises(BadInputError, match="gradient_accumulation_steps: got 0; allowed: 1"):
        config(tmp_path, gradient_accumulation_steps=0)
    model = tiny.made("janus")
    with pytest.raises(BadInputError, match="arguments of training: nobody"):
        BPOTrainer(
            model,
            config(tmp_path, report_to="nobody"),
            make_tuples(model, 2),
            peft_config=lora_config(model.family, r=2),
        )


def test_what_is_asked_for_is_held_where_it_was(tiny, make_tuples, tmp_path):
    # Trained on one neutral prompt alone, the prompts that ask for groups move too; anchored they move less.
    moved = {}
    for anchor in (0.0, 0.5):
        model = tiny.made("janus")
        tuples = make_tuples(model, 1)
        one = tuples.tuples[0]
        codes = torch.from_numpy(one.codes).long()
        before = model.log_prob(list(one.asked), codes, guidance=1).detach()
        args = config(tmp_path / str(anchor), max_steps=20, loss_type="sft", anchor=anchor, learning_rate=2e-2)
        BPOTrainer(model, args, tuples, peft_config=lora_config(model.family, r=2)).train()
        moved[anchor] = float((model.log_prob(list(one.asked), codes, guidance=1).detach() - before).abs().sum())
    assert moved[0.5] < moved[0.0] / 2


@pytest.mark.parametrize("likelihood", ["mixture", "pictures"])
@pytest.mark.parametrize("loss_type", ["posterior", "log_odds", "sft"])
def test_training_lowers_the_loss_and_touches_the_language_model_alone(
    tiny, make_tuples, tmp_path, loss_type, likelihood
):
    model = tiny.made("janus")
    before = {name: one.clone() for name, one in model.model.named_parameters()}
    tuples = make_tuples(model, 2)
    args = config(tmp_path, loss_type=loss_type, likelihood=likelihood, max_steps=12, nll_weight=0.1)
    trainer = BPOTrainer(model, args, tuples, peft_config=lora_config(model.family, r=2))
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0]
    for name, one in model.model.named_parameters():
        plain = name.replace("base_layer.", "")
        if plain in before:
            assert torch.equal(one, before[plain]), name
    moved = [name for name, one in model.model.named_parameters() if one.requires_grad]
    assert moved
    assert all("language_model" in name and "lora" in name for name in moved)


def test_whole_weights_are_trained_where_there_is_no_adapter(tiny, make_tuples, tmp_path):
    model = tiny.made("emu3")
    trainer = BPOTrainer(
        model, config(tmp_path, loss_type="sft", likelihood="pictures", learning_rate=1e-3), make_tuples(model, 2)
    )
    trainer.train()
    trained = {name for name, one in model.model.named_parameters() if one.requires_grad}
    assert trained
    assert all("text_model" in name for name in trained)
    trainer.save_model()
    again = type(model).from_pretrained(
        str(tmp_path), picture_size=tiny.SIZE
    )  # a folder as any other: the processor is stored with it
    codes = torch.zeros(1, 6, dtype=torch.long)
    assert torch.allclose(again.log_prob(["a dog"], codes, guidance=1), model.log_prob(["a dog"], codes, guidance=1))


class _Killed(TrainerCallback):
    """Stops the process's work in the middle, as a kill does: nothing more is written."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


_MORE = [pytest.param(*one, marks=pytest.mark.slow) for one in ((1, False), (6, False), (1, True), (3, True))]


@pytest.mark.parametrize(("step", "dropout"), [(3, False), (6, True), *_MORE])
def test_a_run_that_was_killed_goes_on_with_the_same_losses(tiny, make_tuples, tmp_path, step, dropout):
    def run(folder, callbacks=()):
        model = tiny.made("janus")
        tuples = make_tuples(model, 6)
        args = config(
            folder, max_steps=8, save_strategy="steps", save_steps=2, condition_dropout=0.3, disable_dropout=not dropout
        )
        adapter = lora_config(model.family, r=2, lora_dropout=0.2 if dropout else 0.0)
        return BPOTrainer(model, args, tuples, peft_config=adapter, callbacks=callbacks)

    whole = run(tmp_path / "whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [_Killed(step)]).train()
    again = run(tmp_path / "cut")
    again.train(resume_from_checkpoint=True)
    assert losses(again) == losses(whole)
    files = {one.suffix for one in (tmp_path / "cut").rglob("*") if one.is_file()}
    assert files <= {".json", ".safetensors", ".md", ".jinja", ".model"}  # no pickle anywhere


def test_a_checkpoint_that_was_cut_is_passed_over(tiny, make_tuples, tmp_path):
    def run():
        model = tiny.made("janus")
        args = config(tmp_path, max_steps=6, save_strategy="steps", save_steps=2)
        return BPOTrainer(model, args, make_tuples(model, 6), peft_config=lora_config(model.family, r=2))

    first = run()
    first.train()
    (tmp_path / "checkpoint-6" / "trainer_state.json").unlink()
    with pytest.raises(LedgerError, match="written to its end"):
        run().train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    again = run()
    again.train(resume_from_checkpoint=True)
    assert losses(again) == losses(first)


def test_a_full_disk_leaves_a_run_that_can_go_on(tiny, make_tuples, tmp_path, monkeypatch):
    def run():
        model = tiny.made("janus")
        args = config(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
        return BPOTrainer(model, args, make_tuples(model, 6), peft_config=lora_config(model.family, r=2))

    from evenhand.mitigate.bpo import stored_trainer

    written = stored_trainer.write_state

    def full(folder, name, state):
        if name == "optimizer" and "checkpoint-4" in str(folder):
            raise OSError(28, "No space left on device")
        written(folder, name, state)

    monkeypatch.setattr(stored_trainer, "write_state", full)
    with pytest.raises(LedgerError, match=r"step 4: .*No space left.*from checkpoint-2"):
        run().train()
    assert not (tmp_path / "checkpoint-4").exists()
    monkeypatch.undo()
    again = run()
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4


def test_a_folder_of_another_run_is_refused(tiny, make_tuples, tmp_path):
    model = tiny.made("janus")
    tuples = make_tuples(model, 2)
    BPOTrainer(model, config(tmp_path), tuples, peft_config=lora_config(model.family, r=2)).train()
    other = tiny.made("janus")
    with pytest.raises(ChangedRunError, match=r"nll_weight 1\.0, now 0\.5"):
        BPOTrainer(other, config(tmp_path, nll_weight=0.5), tuples, peft_config=lora_config(other.family, r=2))
    with pytest.raises(ChangedRunError, match="tuples"):
        BPOTrainer(other, config(tmp_path), make_tuples(model, 3, seed=1), peft_config=lora_config(other.family, r=2))


def test_what_is_refused_before_the_first_step(tiny, make_tuples, tmp_path):
    model = tiny.made("janus")
    tuples = make_tuples(model, 2)
    with pytest.raises(BadInputError, match="one share above 0"):
        BPOTrainer(model, config(tmp_path, target=[0.7, 0.2]), tuples)
    adapter = lora_config(model.family, r=2)
    with pytest.raises(BadInputError, match="nothing to evaluate"):
        BPOTrainer(model, config(tmp_path, eval_strategy="steps"), tuples, peft_config=adapter)
    with pytest.raises(BadInputError, match="whole weights are trained"):
        BPOTrainer(model, config(tmp_path), tuples)
    with pytest.raises(BadInputError, match="q_proj"):
        lora_config(model.family, target_modules=("query",))
    with pytest.raises(ArtefactError, match="no adapter"):
        BPOTrainer(model, config(tmp_path), tuples, start=tmp_path / "nowhere")
    with pytest.raises(BadInputError, match="leave one of them out"):
        BPOTrainer(model, config(tmp_path), tuples, start=tmp_path, peft_config=lora_config(model.family))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"beta": -1.0}, "beta: got -1.0"),
        ({"beta": 0.0}, "nothing is balanced"),
        ({"nll_weight": float("nan")}, "nll_weight"),
        ({"temperature": 0.0}, "above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0"),
        ({"condition_dropout": 1.0}, "a share in"),
    ],
)
def test_bad_arguments(tmp_path, given, message):
    with pytest.raises(BadInputError, match=message):
        config(tmp_path, **given)


class _Reader:
    """A labeller that reads the parity of a picture's codes."""

    def __init__(self):
        self.attribute, self.settings, self.name = load_attribute("gender"), {}, "parity"

    def label(self, samples):
        groups = [self.attribute.groups[sum(one.codes) % 2] for one in samples]
        pairs = zip(samples, groups, strict=True)
        return tuple(Label(one.prompt_id, one.k, "gender", group, None, 1.0) for one, group in pairs)


def test_the_audit_counts_what_is_drawn_and_stops_early(tiny, make_tuples, tmp_path):
    model = tiny.made("janus")
    audit = HeldOutAudit(
        [Prompt("a", "p", "a dog", None), Prompt("b", "p", "a cat", None)],
        [_Reader()],
        groups=load_attribute("gender").groups,
        pictures=3,
    )
    tuples = make_tuples(model, 4, load_attribute("gender").groups)
    args = config(
        tmp_path,
        max_steps=40,
        learning_rate=1e-6,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="disparity",
        greater_is_better=False,
    )
    trainer = BPOTrainer(
        model,
        args,
        tuples,
        eval_dataset=tuples,
        audit=audit,
        peft_config=lora_config(model.family, r=2),
        callbacks=[EarlyStoppingCallback(2)],
    )
    trainer.train()
    assert trainer.state.global_step < 40
    rows = [row for row in trainer.state.log_history if "eval_disparity" in row]
    # 3 pictures of two prompts: RD of each is 1 or 1/3
    assert {round(row["eval_disparity"] * 6) for row in rows} <= {2, 4, 6}
    assert all("eval_loss" in row and "eval_balance" in row for row in rows)
    assert all(math.isfinite(row["eval_loss"]) for row in rows)


def test_the_audit_by_hand():
    # RD of (3, 1): 1/2; of (2, 2): 0; the third prompt shows nobody and is left out of the mean.
    audit = HeldOutAudit(
        [Prompt(one, "p", one, None) for one in "abc"], [_Reader()], groups=load_attribute("gender").groups, pictures=4
    )
    found = audit.judge(np.array([[3, 1, 0], [2, 2, 0], [0, 0, 4]]))
    assert found.disparity == pytest.approx(0.25)
    assert found.shown == pytest.approx(8 / 12)
    # an even model at 4 pictures shows (4,0) or (0,4) in 1/8, (3,1) or (1,3) in 1/2: 1/8 + 1/4 = 3/8
    assert found.floor == pytest.approx(3 / 8, abs=0.02)


def test_arguments_are_stored_as_json(tiny, make_tuples, tmp_path):
    model = tiny.made("janus")
    trainer = BPOTrainer(model, config(tmp_path), make_tuples(model, 2), peft_config=lora_config(model.family, r=2))
    trainer.save_model()
    assert json.loads((tmp_path / "arguments.json").read_text())["nll_weight"] == 1.0


def test_half_precision_with_activations_made_again_gives_nearly_the_same_losses(tiny, make_tuples, tmp_path):
    found = {}
    for name, given in (("plain", {}), ("lean", {"bf16": True, "activation_checkpointing": True})):
        model = tiny.made("janus")
        trainer = BPOTrainer(
            model, config(tmp_path / name, **given), make_tuples(model, 2), peft_config=lora_config(model.family, r=2)
        )
        trainer.train()
        found[name] = losses(trainer)
    assert all(math.isfinite(one) for one in found["lean"])
    assert found["lean"] == pytest.approx(found["plain"], rel=0.05, abs=0.02)  # bfloat16 keeps three digits
    assert found["lean"] != found["plain"]


def test_a_target_weighs_the_pictures_that_are_looked_at(tiny, make_tuples, tmp_path):
    # Both pictures of each tuple are looked at: the loss is the mean over tuples of .8 and .2 of their divergences.
    def loss(**given):
        model = tiny.made("janus")
        args = config(tmp_path / str(len(given)), max_steps=1, loss_type="sft", mixture_pictures=2, **given)
        trainer = BPOTrainer(model, args, make_tuples(model, 2), peft_config=lora_config(model.family, r=2))
        batch = next(iter(trainer.get_train_dataloader()))
        weights = trainer._weights_of(trainer._mixture(batch, [False] * 2, training=False))
        return weights

    assert (loss() == 1).all()
    weighed = loss(target=[0.8, 0.2])
    assert sorted(weighed[0].tolist()) == pytest.approx([0.4, 1.6])
