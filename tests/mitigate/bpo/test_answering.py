"""Finetuning for understanding: the loss is that of the answers, and an answer is learned."""

import pytest
import torch

from evenhand.errors import BadInputError
from evenhand.mitigate.bpo.adapters import lora_config
from evenhand.mitigate.bpo.answering import AnsweredPictures, AnswerTrainer, question_of
from evenhand.mitigate.bpo.config import BPOConfig


def config(folder, **given):
    return BPOConfig(
        output_dir=str(folder),
        **{"max_steps": 1, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, **given},
    )


@pytest.mark.parametrize("kind", ["janus", "emu3"])
def test_the_loss_is_that_of_the_answers_tokens(tiny, tmp_path, kind):
    # Two answers of different length: each row scored alone, without padding, by a plain forward pass.
    model = tiny.made(kind)
    pictures = [tiny.picture(1), tiny.picture(2)]
    questions, answers = ["is it a dog?", "what is it?"], ["a", "a woman and a man"]
    wanted = []
    for picture, question, answer in zip(pictures, questions, answers, strict=True):
        from evenhand.models.transformers_prompt import PromptEncoder

        inputs = PromptEncoder(model.processor, model.family.question_form).encode([question], [picture])
        ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"] + [model.tokenizer.eos_token_id]
        start = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            logits = model.model(**inputs, use_cache=False).logits[0].float().log_softmax(-1)
        told = [float(logits[start - 1 + i, one]) for i, one in enumerate(ids)]
        wanted.append(-sum(told) / len(told))
    trainer = AnswerTrainer(
        model,
        config(tmp_path),
        AnsweredPictures(pictures, questions, answers),
        peft_config=lora_config(model.family, r=2),
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(sum(wanted) / 2, rel=1e-3)


def test_an_answer_is_learned_and_the_picture_tokenizer_stays(tiny, tmp_path):
    model = tiny.made("janus")
    before = {name: one.clone() for name, one in model.model.model.vqmodel.named_parameters()}
    rows = AnsweredPictures([tiny.picture(1)] * 2, [question_of("gender", ("male", "female"))] * 2, ["female"] * 2)
    trainer = AnswerTrainer(
        model, config(tmp_path, max_steps=30, learning_rate=3e-2), rows, peft_config=lora_config(model.family, r=4)
    )
    trainer.train()
    said = model.answer_about([question_of("gender", ("male", "female"))], [tiny.picture(1)], seeds=[0], temperature=0)
    assert said == ("female",)
    assert all(torch.equal(one, before[name]) for name, one in model.model.model.vqmodel.named_parameters())


def test_rows_that_do_not_fit(tiny):
    with pytest.raises(BadInputError, match="2 answers"):
        AnsweredPictures([tiny.picture(1)], ["what?"], ["a", "b"])
    with pytest.raises(BadInputError, match="no answer empty"):
        AnsweredPictures([tiny.picture(1)], ["what?"], [""])
