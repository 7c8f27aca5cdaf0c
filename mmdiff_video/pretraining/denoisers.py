"""The DiT of a nano backbone with its text encoders, as one module that is trained.

Prompts are encoded as the stock pipelines do it, from token ids, so that gradients reach the text
encoders.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.cards import BackboneCard
from mmdiff_video.backbones.components import load_pipeline
from mmdiff_video.backbones.families.flux import positions
from mmdiff_video.backbones.latents import pack, unpack
from mmdiff_video.backbones.nano.parts import (
    new_scheduler,
    new_text_encoders,
    new_tokenizers,
    new_transformer,
)
from mmdiff_video.backbones.noise import predicts_sample, velocity_to

Tokens = dict[str, Tensor]


class Denoiser(nn.Module):
    """Predicts the velocity of the flow from noisy latents and tokenized prompts.

    Args:
        transformer: the DiT.
        text_encoders: name in the pipeline -> encoder.
        tokenizers: name in the pipeline -> tokenizer.
        text_tokens: length that prompts are padded to.
        scheduler: says whether the DiT answers with the velocity or with the clean sample.
    """

    def __init__(
        self,
        transformer: Any,
        text_encoders: dict[str, Any],
        tokenizers: dict[str, Any],
        text_tokens: int,
        scheduler: Any,
    ):
        super().__init__()
        self.transformer = transformer
        self.predicts_sample = predicts_sample(scheduler)
        self.text_encoders = nn.ModuleDict(text_encoders)
        self.tokenizers = tokenizers
        self.text_tokens = text_tokens

    def pipeline_components(self) -> dict[str, Any]:
        """Name in the pipeline -> component, all but VAE and scheduler."""
        return {
            "transformer": self.transformer,
            **dict(self.text_encoders.items()),
            **self.tokenizers,
        }

    @abstractmethod
    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Turn N prompts into what :meth:`forward` reads: token ids and masks, [N, length] each."""

    @abstractmethod
    def forward(self, noisy: Tensor, t: Tensor, tokens: Tokens, guidance: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            noisy: [N, c, F, h, w].
            t: [N], the sigma of flow matching.
            tokens: from :meth:`tokenize`.
            guidance: [N], embedded by a guidance-distilled model; others ignore it.
        """

    def forget_guidance(self, scale: float) -> None:
        """Make the model answer to every guidance scale as it does to ``scale`` now.

        Nothing has to be done for a model that embeds no scale.
        """


class WanDenoiser(Denoiser):
    """WanTransformer3DModel with UMT5; padding tokens are zeroed after encoding, not masked."""

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        encoded = _padded(self.tokenizers["tokenizer"], prompts, self.text_tokens)
        return {"ids": encoded.input_ids, "mask": encoded.attention_mask}

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tokens, guidance: Tensor) -> Tensor:
        mask = tokens["mask"]
        text = self.text_encoders["text_encoder"](tokens["ids"], mask).last_hidden_state
        predicted = self.transformer(
            hidden_states=noisy,
            timestep=t * 1000,
            encoder_hidden_states=text * mask[..., None],
            return_dict=False,
        )[0]
        return velocity_to(predicted, noisy, t) if self.predicts_sample else predicted


class FluxDenoiser(Denoiser):
    """FluxTransformer2DModel with T5 (all tokens attended, padding too) and CLIP (pooled)."""

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        clip, t5 = self.tokenizers["tokenizer"], self.tokenizers["tokenizer_2"]
        return {
            "clip": _padded(clip, prompts, clip.model_max_length).input_ids,
            "t5": _padded(t5, prompts, self.text_tokens).input_ids,
        }

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tokens, guidance: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        text = self.text_encoders["text_encoder_2"](tokens["t5"])[0]
        velocity = self.transformer(
            hidden_states=pack(noisy[:, :, 0]),
            timestep=t,
            guidance=guidance if self.transformer.config.guidance_embeds else None,
            pooled_projections=self.text_encoders["text_encoder"](tokens["clip"]).pooler_output,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=noisy.device),
            img_ids=positions(height // 2, width // 2).to(noisy),
            return_dict=False,
        )[0]
        return unpack(velocity, height, width)[:, :, None]

    @torch.no_grad()
    def forget_guidance(self, scale: float) -> None:
        embed = self.transformer.time_text_embed
        device = next(self.parameters()).device
        thousandths = torch.tensor([1000 * scale], device=device)
        known = embed.guidance_embedder(embed.time_proj(thousandths))[0]
        embed.guidance_embedder.linear_2.weight.zero_()
        embed.guidance_embedder.linear_2.bias.copy_(known)


_DENOISERS: dict[str, type[Denoiser]] = {"WanPipeline": WanDenoiser, "FluxPipeline": FluxDenoiser}


def new_denoiser(card: BackboneCard) -> Denoiser:
    """Build the DiT and text encoders of a card, with weights to start a training from."""
    tokenizers = new_tokenizers(card)
    transformer = new_transformer(card)
    _initialize(transformer)
    return _DENOISERS[card.pipeline](
        transformer,
        new_text_encoders(card, tokenizers),
        tokenizers,
        card.defaults.text_tokens,
        new_scheduler(card),
    )


def load_denoiser(folder: Path, card: BackboneCard) -> Denoiser:
    """Open the DiT and text encoders of a backbone's folder, in float32.

    The tokenizers are the folder's own; the card says what is predicted. The last layer of a DiT
    that was trained to predict something else is set to zero.

    Raises:
        InputError: as :func:`mmdiff_video.backbones.components.load_pipeline`.
    """
    pipeline = load_pipeline(folder, {"default": torch.float32})
    scheduler = new_scheduler(card)
    if predicts_sample(pipeline.scheduler) != predicts_sample(scheduler):
        nn.init.zeros_(pipeline.transformer.proj_out.weight)
        nn.init.zeros_(pipeline.transformer.proj_out.bias)
    names = [name for name in ("text_encoder", "text_encoder_2") if name in pipeline.components]
    tokenizers = [name for name in ("tokenizer", "tokenizer_2") if name in pipeline.components]
    return _DENOISERS[card.pipeline](
        pipeline.transformer,
        {name: pipeline.components[name] for name in names},
        {name: pipeline.components[name] for name in tokenizers},
        card.defaults.text_tokens,
        scheduler,
    )


def _padded(tokenizer: Any, prompts: Sequence[str], length: int) -> Any:
    return tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )


@torch.no_grad()
def _initialize(transformer: nn.Module) -> None:
    """Begin as DiT does (Peebles and Xie 2023): every block an identity, the output zero.

    The layers that compute gates, shifts and scales from the timestep begin at zero, and so does
    the output of Wan's text attention, which is added without a gate.
    """
    zero = (
        "proj_out",  # of the whole model; blocks' own are named below it
        "norm1.linear",  # FLUX, double blocks: picture
        "norm1_context.linear",  # ... and text
        "norm.linear",  # FLUX, single blocks
        "norm_out.linear",
        "condition_embedder.time_proj",  # Wan: all blocks share it
        "attn2.to_out.0",
    )
    for name, layer in transformer.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        if name == "proj_out" or any(name.endswith(f".{z}") or name == z for z in zero[1:]):
            layer.weight.zero_()
            layer.bias.zero_()
        else:
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()
    for name, table in transformer.named_parameters():
        if name.endswith("scale_shift_table"):  # Wan
            table.zero_()
