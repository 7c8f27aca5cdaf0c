"""A vision-language model that says what a picture shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mmdiff_video.backbones.hub import fetch, is_hub_id
from mmdiff_video.backbones.model_files import check_vocabulary, read_config
from mmdiff_video.backbones.models import check_finite, load_model
from mmdiff_video.errors import InputError

DEFAULT_MODEL = "google/gemma-3-4b-it"
"""The paper's."""

DEFAULT_INSTRUCTION = (
    "Describe this picture in one or two plain sentences, as a prompt for drawing it: the things in"
    " it, what they look like and where they are. Begin with the things themselves."
)

_KIND = "folder of an image-text-to-text model"
_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.safetensors"]


class Captioner:
    """An image-text-to-text model of transformers, its processor and an instruction.

    Decodes greedily, so that a picture's caption is a function of the picture, but for the rounding
    of batches.

    Args:
        model: has ``generate``.
        processor: makes its inputs; has a chat template.
        instruction: what the model is told beside each picture.
        max_new_tokens: most tokens of a caption.

    Attributes:
        prompt: the chat as the model gets it, with a placeholder for the picture.
    """

    def __init__(self, model: Any, processor: Any, instruction: str, max_new_tokens: int):
        self.model = model.eval()
        self.processor = processor
        self.max_new_tokens = max_new_tokens
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"  # a decoder goes on from the right end
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        content = [{"type": "image"}, {"type": "text", "text": instruction}]
        self.prompt = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        bos = tokenizer.bos_token
        self._complete = bos is not None and self.prompt.startswith(bos)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[str]:
        """Caption pictures, each uint8 [H, W, 3] of any size; one line of text each.

        Raises:
            InputError: they do not fit into memory together.
        """
        inputs = self.processor(
            text=[self.prompt] * len(pictures),
            images=[[Image.fromarray(picture)] for picture in pictures],
            padding=True,
            return_tensors="pt",
            add_special_tokens=not self._complete,
        )
        try:
            found = self.model.generate(
                **inputs.to(self.model.device, dtype=self.model.dtype),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                # a model's own settings of sampling, which would only be warned about
                temperature=None,
                top_p=None,
                top_k=None,
            )
        except torch.OutOfMemoryError:
            raise InputError(
                f"{len(pictures)} pictures at once do not fit into memory: lower --batch-size"
            ) from None
        said = found[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(said, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


def load_captioner(
    name_or_path: str = DEFAULT_MODEL,
    *,
    instruction: str = DEFAULT_INSTRUCTION,
    max_new_tokens: int = 96,
    device: torch.device | str = "cpu",
) -> Captioner:
    """Load a vision-language model in the number format of its weights.

    Args:
        name_or_path: a hub id, or a folder as ``save_pretrained`` of model and processor leaves it.
        instruction, max_new_tokens: see :class:`Captioner`.
        device: where it runs.

    Raises:
        InputError: weights that are not to be had (with what to do), a model that takes no pictures
            or has no chat template, incomplete weights.
    """
    folder = _folder(name_or_path)
    try:
        model, processor = _load(folder)
        model.to(device)
        check_finite(model, folder)
    except InputError as error:
        raise InputError(
            f"'{name_or_path}' cannot be loaded as an image-text-to-text model: {error}"
        ) from error.__cause__
    return Captioner(model, processor, instruction, max_new_tokens)


def _load(folder: Path) -> tuple[Any, Any]:
    """Load the model, in the number format of its weights, and its processor."""
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    read_config(folder / "config.json")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise InputError(
                f"it is a {config.model_type} model, which does not turn pictures into text: give"
                f" an image-text-to-text model such as {DEFAULT_MODEL}"
            )
        processor: Any = AutoProcessor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except InputError:
        raise
    except Exception as error:  # any: a configuration may say anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(reason) from error
    if not hasattr(processor, "image_processor"):
        raise InputError("it lacks the configuration of its image processor")
    if processor.chat_template is None:
        raise InputError(
            "it has no chat template, so it cannot be told what to do: take the instruction-tuned"
            " model of the family (its name often ends in -it or -Instruct)"
        )
    check_vocabulary(folder, type(processor.tokenizer).vocab_files_names)
    found: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    cls = found[0] if isinstance(found, tuple) else found
    return load_model(cls, folder, "auto", config=config, spare=True), processor


def _folder(name_or_path: str) -> Path:
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    if not is_hub_id(name_or_path):
        raise InputError(f"'{name_or_path}' is no {_KIND}, nor a hub id such as {DEFAULT_MODEL}")
    return fetch(name_or_path, _FILES, instead=_KIND)
