"""The text side's files. In: the sentences the miniature will meet. Out: a tokenizer and a ``JanusProcessor``.

A byte-level BPE as Janus-Pro has, learned on the prompts, so that any text can be written and common words are one
token.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import JanusProcessor, PreTrainedTokenizerFast
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

START, END, PAD = "<|begin_of_sentence|>", "<|end_of_sentence|>", "<|pad|>"
BEGIN, FINISH, PLACE = "<begin_of_image>", "<end_of_image>", "<image_placeholder>"
USER, ASSISTANT = "<|User|>", "<|Assistant|>"
SPECIAL = (PAD, START, END, BEGIN, FINISH, PLACE, USER, ASSISTANT)
VOCABULARY = 2048

CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|User|>: {% else %}<|Assistant|>: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image_placeholder>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\n' }}{% else %}<|end_of_sentence|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)


def make_processor(texts: Iterable[str], *, side: int, codes: int) -> JanusProcessor:
    """Learn the vocabulary and put the files together."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    own.train_from_iterator(texts, trainer)
    start = own.token_to_id(START)
    own.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, start)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=own,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        extra_special_tokens={"image_token": PLACE, "boi_token": BEGIN, "eoi_token": FINISH},
    )
    pixels = JanusImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3, min_size=1
    )
    return JanusProcessor(pixels, tokenizer, chat_template=CHAT, num_image_tokens=codes)


def written(processor: JanusProcessor, text: str, *, picture: bool) -> str:
    """The chat template around a text, as the adapter writes it."""
    parts = [{"type": "image"}] if picture else []
    turn = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
    asked: str = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return asked
