"""A Gemma-3 of a few thousand random weights with its real processor, saved as the hub has it."""

from pathlib import Path

import torch

_SENTENCES = """
    a large red chair and a small blue lamp on the green rug under a striped purple table
    say what the picture of room with wall floor sofa beside wooden describe user model
"""
WORDS = sorted({*_SENTENCES.split()})

_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
_SPECIAL += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]

# Gemma's own, shortened
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<start_of_image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def save_tiny_vlm(folder: Path) -> Path:
    """Save model, tokenizer and image processor; captions are made of :data:`WORDS`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
        PreTrainedTokenizerFast,
    )

    vocabulary = {word: i for i, word in enumerate([*_SPECIAL, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={
            "turn_token": "<start_of_turn>",
            "end_token": "<end_of_turn>",
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = Gemma3Config(
        text_config={
            **size,
            "vocab_size": len(vocabulary),
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
            "initializer_range": 0.5,
        },
        vision_config={**size, "num_attention_heads": 2, "image_size": 28, "patch_size": 7},
        mm_tokens_per_image=4,
        tie_word_embeddings=False,  # or each word would be followed by itself
        boi_token_index=_SPECIAL.index("<start_of_image>"),
        eoi_token_index=_SPECIAL.index("<end_of_image>"),
        image_token_index=_SPECIAL.index("<image_soft_token>"),
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    for parameter in model.model.vision_tower.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # so that pictures matter
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.5)
    assert model.generation_config is not None
    # an untrained model says anything: let it say words, and sample unless told otherwise
    model.generation_config.update(
        suppress_tokens=list(range(len(_SPECIAL))), do_sample=True, top_k=64, top_p=0.95
    )
    model.save_pretrained(folder)
    pictures = Gemma3ImageProcessor(size={"height": 28, "width": 28})
    processor = Gemma3Processor(pictures, tokenizer, chat_template=_TEMPLATE, image_seq_length=4)
    processor.save_pretrained(folder)
    return folder
