"""Prompts, draws, pictures and codes against transformers' own, and against what was published."""

import numpy as np
import torch
from tiny_unified import CODES, LONG, SHORT, SIZE, made, picture, tiny

from evenhand.models.protocol import CodeModel, ImageModel
from evenhand.models.unified.family import Family
from evenhand.models.unified.load import family_of
from evenhand.models.unified.pixels import fitted


def test_members(model, kind):
    assert isinstance(model.family, Family)
    assert isinstance(model, CodeModel)
    assert isinstance(model, ImageModel)
    assert model.code_shape == {"janus": (3, 3), "emu3": (3, 2)}[kind]
    assert model.codebook_size == CODES
    assert model.guidance == {"janus": 5.0, "emu3": 3.0}[kind]
    assert model.top_k == {"janus": 0, "emu3": 2048}[kind]


def test_prefixes_are_as_published(models):
    janus, emu3 = models["janus"], models["emu3"]
    written = janus.tokenizer.convert_ids_to_tokens(list(janus.family.prefix(SHORT)))
    assert written[:3] == ["<s>", "<|User|>", ":"]
    assert written[-3:] == ["<|Assistant|>", ":", "<begin_of_image>"]
    nothing = janus.tokenizer.convert_ids_to_tokens(list(janus.family.without_text(janus.family.prefix(SHORT))))
    assert nothing == ["<s>", *["<pad>"] * (len(written) - 2), "<begin_of_image>"]
    asked = emu3.tokenizer.decode(list(emu3.family.prefix(SHORT)))
    header = "<|image start|>3*2<|image token|>"
    assert asked == f"<|extra_203|>{SHORT} masterpiece, film grained, best quality.{header}"
    nothing = emu3.tokenizer.decode(list(emu3.family.without_text(emu3.family.prefix(SHORT))))
    assert nothing.startswith("<|extra_203|>lowres, bad anatomy")
    assert nothing.endswith(f"username, blurry.{header}")


def test_janus_without_a_chat_template_is_asked_as_published():
    model, processor = tiny("janus")
    processor.chat_template = None
    prefix = family_of(model, processor).prefix(SHORT)
    assert processor.tokenizer.decode(list(prefix)).replace(" ", "") == (
        "<s><|User|>:adog\n\n<|Assistant|>:<begin_of_image>".replace("\n\n", "\n\n")
    )


def test_janus_draws_what_transformers_draws(models):
    model = models["janus"]
    chats = [
        model.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "text", "text": text}]}], add_generation_prompt=True
        )
        for text in (SHORT, LONG)
    ]
    inputs = model.processor(
        text=chats, generation_mode="image", padding=True, padding_side="left", return_tensors="pt"
    )
    theirs = model.model.generate(**inputs, generation_mode="image", do_sample=False, guidance_scale=5.0)
    assert torch.equal(model.generate([SHORT, LONG], seeds=[1, 2], temperature=0), theirs)
    decoded = model.model.decode_image_tokens(theirs)  # (pictures, height, width, 3), not clamped
    torch.testing.assert_close(
        model.decode(theirs).permute(0, 2, 3, 1), ((decoded + 1) / 2).clamp(0, 1).detach(), atol=1e-5, rtol=0
    )


def test_emu3_draws_what_transformers_draws(models):
    from transformers.generation.logits_process import (
        LogitsProcessorList,
        PrefixConstrainedLogitsProcessor,
        UnbatchedClassifierFreeGuidanceLogitsProcessor,
    )

    from evenhand.models.unified.emu3 import NEGATIVE_PROMPT, SUFFIX

    model = models["emu3"]
    asked = {"return_for_image_generation": True, "ratio": "2:3", "image_area": SIZE[0] * SIZE[1]}
    visual = model.tokenizer.convert_tokens_to_ids([f"<|visual token {code:06d}|>" for code in range(CODES)])
    end = model.tokenizer.convert_tokens_to_ids("<|extra_200|>")
    for text in (SHORT, LONG):
        inputs = model.processor(text=[text + SUFFIX], return_tensors="pt", **asked)
        nothing = model.processor(text=[NEGATIVE_PROMPT], return_tensors="pt", **asked)
        start = inputs["input_ids"].shape[1]
        guide = UnbatchedClassifierFreeGuidanceLogitsProcessor(3.0, model.model, unconditional_ids=nothing["input_ids"])
        grammar = PrefixConstrainedLogitsProcessor(
            lambda row, ids, start=start: [end] if (len(ids) - start) % 3 == 2 else visual, num_beams=1
        )
        ids = model.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=8,
            do_sample=False,
            logits_processor=LogitsProcessorList([guide, grammar]),
        )[0, start:].tolist()
        theirs = [visual.index(one) for i, one in enumerate(ids) if i % 3 != 2]
        ours = model.generate([text], seeds=[1], temperature=0)
        assert ours[0].tolist() == theirs
        closing = torch.tensor([[*ids, end, 0, 0, 0]])  # the last row's end, then the three tokens decode drops
        decoded = model.model.decode_image_tokens(image_tokens=closing, height=3, width=2)
        torch.testing.assert_close(model.decode(ours), ((decoded + 1) / 2).clamp(0, 1).detach(), atol=1e-5, rtol=0)


def test_encode_gives_the_codes_transformers_gives(models):
    seen = picture(4, width=16, height=24)
    emu3 = models["emu3"]
    inputs = emu3.processor.image_processor([seen], return_tensors="pt")
    assert inputs["pixel_values"].shape[-2:] == (24, 16)
    codes = emu3.model.model.vqmodel.encode(inputs["pixel_values"], inputs["image_sizes"]).image_tokens[0]
    assert torch.equal(emu3.encode([seen])[0], codes.flatten())
    # Janus: by angle; the same as transformers once the codebook's vectors have one length.
    janus = made("janus")
    table = janus.model.model.vqmodel.quantize.embedding.weight
    with torch.no_grad():
        table /= table.norm(dim=-1, keepdim=True)
        square = picture(4, width=6, height=6)
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 127.5 - 1
        theirs = janus.model.model.vqmodel.encode(pixels).image_tokens
    assert torch.equal(janus.encode([square])[0], theirs)


def _janus_pixels(seen):
    small = fitted(seen, height=6, width=6)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 127.5 - 1


def test_features_by_hand(models):
    janus, emu3, seen = models["janus"], models["emu3"], [picture(1), picture(2)]
    vq = janus.model.model.vqmodel
    with torch.no_grad():
        inputs = janus.processor.image_processor(images=seen, return_tensors="pt")["pixel_values"]
        states = janus.model.model.vision_model(inputs).last_hidden_state
        projected = janus.model.model.aligner(states)
        latents = vq.quant_conv(vq.encoder(torch.cat([_janus_pixels(one) for one in seen])))
        vectors = vq.quantize.get_codebook_entry(janus.encode(seen))  # (pictures, dimension, rows, columns)
        table = emu3.model.model.vqmodel.quantize.embedding.weight[emu3.encode(seen)]
        words = emu3.model.get_input_embeddings().weight[emu3.family.code_ids[emu3.encode(seen)]]
    torch.testing.assert_close(janus.features(seen, where="encoder"), states.mean(dim=1))
    torch.testing.assert_close(janus.features(seen, where="projected"), projected.mean(dim=1))
    unit = latents / latents.norm(dim=1, keepdim=True)
    torch.testing.assert_close(janus.features(seen, where="latents"), unit.mean(dim=(2, 3)))
    torch.testing.assert_close(janus.features(seen, where="codes"), vectors.mean(dim=(2, 3)))
    torch.testing.assert_close(emu3.features(seen, where="codes"), table.mean(dim=1))
    torch.testing.assert_close(emu3.features(seen, where="projected"), words.mean(dim=1))
    # Quantising the encoder's states: each position's nearest vector is the code.
    assert emu3.features(seen, where="encoder").shape == (2, 4)
    assert not torch.equal(*emu3.features(seen, where="encoder"))


def test_emu3_takes_the_processors_picture_size_by_default(models):
    model, processor = tiny("emu3")
    model.config.text_config.max_position_embeddings = 9216
    assert family_of(model, processor).code_shape == (90, 90)  # 720 x 720, as published
    wide = family_of(model, processor, picture_size=(8, 40))
    assert wide.code_shape == (1, 5)
    assert processor.tokenizer.decode(list(wide.prefix(SHORT))).endswith("<|image start|>1*5<|image token|>")
