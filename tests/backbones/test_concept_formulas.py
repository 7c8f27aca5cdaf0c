"""Concept maps against their formulas, worked out densely in float64."""

from typing import Any

import torch
from concept_reading import CONCEPTS, latent, read
from flux_reference import FluxReference
from torch import Tensor

from mmdiff_video.backbones import Backbone
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS
from mmdiff_video.backbones.latents import pack
from mmdiff_video.backbones.noise import keyed_noise, noised


def reference(flux: Backbone, x0: Tensor, t: float) -> tuple[list[Tensor], list[Tensor]]:
    """The float64 blocks on the same noisy latent."""
    prompts = ["a red ball", "a chair"]
    noisy = noised(x0, keyed_noise(["a", "b"], 0, x0.shape[1:]), torch.tensor(t))
    text = flux.encode_text(prompts)
    model = flux.pipeline.transformer
    return FluxReference(model.state_dict(), model.config).run(
        pack(noisy[:, :, 0]),
        text.tokens,
        text.tensors["pooled"],
        flux.encode_text(CONCEPTS).tokens[:, 0],
        torch.full([2], t),
        3.5,
        (2, 3),
    )


def test_flux_maps_are_the_papers_formula(tiny: dict[str, Backbone]) -> None:
    flux = tiny["flux"]
    x0 = latent(flux)
    maps, attentions = reference(flux, x0, 0.7)
    arguments = {"latent": x0, "prompt": ["a red ball", "a chair"], "timesteps": [0.7]}
    for i, expected in enumerate(maps):
        got = read(flux, **arguments, concept_blocks=[i], taps=[]).concepts
        assert expected.std() > 1e-2  # nothing saturated: the comparison means something
        torch.testing.assert_close(got.flatten(2).double(), expected, atol=1e-5, rtol=0)
    mean = torch.stack(maps).mean(0)
    torch.testing.assert_close(
        read(flux, **arguments).concepts.flatten(2).double(), mean, atol=1e-5, rtol=0
    )
    # the ablation: what falls on the words, of the attention over all text and picture tokens
    words = flux.encode_text(["a red ball", "a chair"]).words
    share = [
        torch.stack([a[n, :, :, : words[n].sum()].sum(-1).mean(0) for n in range(2)])
        for a in attentions
    ]
    got = read(flux, **arguments, concepts=[PROMPT_WORDS]).concepts
    torch.testing.assert_close(
        got.flatten(2).double(), torch.stack(share).mean(0)[:, None], atol=1e-5, rtol=0
    )


def test_concepts_in_the_texts_place_are_treated_as_the_text_is(tiny: dict[str, Backbone]) -> None:
    """With the concepts' tokens as the prompt and no pooled text, both streams are the same."""
    flux = tiny["flux"]
    model = flux.pipeline.transformer
    concepts = flux.encode_text(CONCEPTS)
    text = type(concepts)(
        {
            "tokens": concepts.tokens[:, 0][None],
            "pooled": torch.zeros_like(concepts.tensors["pooled"][:1]),
        },
        torch.ones(1, len(CONCEPTS), dtype=torch.bool),
    )
    maps: list[Tensor] = []
    text_out: list[Tensor] = []
    picture_out: list[Tensor] = []
    handles = []
    for block in model.transformer_blocks:
        for module, kept in (
            (block.attn.to_add_out, text_out),
            (block.attn.to_out[0], picture_out),
        ):
            handles.append(
                module.register_forward_pre_hook(lambda m, args, kept=kept: kept.append(args[0]))
            )
    reader = flux.adapter.concept_reader(CONCEPTS, [0, 1], text)
    with reader.attached(maps.append), torch.no_grad():
        flux.velocity(latent(flux)[:1], torch.tensor([0.6]), text, 3.5)
    for handle in handles:
        handle.remove()
    # to_add_out of block 0 runs a second time, for the concepts
    text_out = [text_out[0], text_out[-1]]
    expected = [
        (t @ x.transpose(1, 2)).softmax(1) for t, x in zip(text_out, picture_out, strict=True)
    ]
    torch.testing.assert_close(maps[0], torch.stack(expected).mean(0), atol=1e-5, rtol=1e-5)


def test_wan_maps_are_the_stated_formula(tiny: dict[str, Backbone]) -> None:
    wan = tiny["wan"]
    x0, prompts = latent(wan), ["a red ball", "a chair"]
    model = wan.pipeline.transformer
    seen: dict[str, list[Tensor]] = {"picture": [], "text": []}

    def watch(module: Any, args: tuple[Any, ...]) -> None:
        seen["picture"].append(args[0].double())
        seen["text"].append(args[1].double())

    text = wan.encode_text(prompts)
    handles = [block.attn2.register_forward_pre_hook(watch) for block in model.blocks]
    with torch.no_grad():
        noisy = noised(x0, keyed_noise(["a", "b"], 0, x0.shape[1:]), torch.tensor(0.7))
        wan.velocity(noisy, torch.tensor([0.7, 0.7]), text, None)
        encoded = wan.encode_text(CONCEPTS)
        embedded = model.condition_embedder.text_embedder(encoded.tokens).double()
    for handle in handles:
        handle.remove()

    weights = {name: w.double() for name, w in model.state_dict().items()}

    def heads(block: int, which: str, x: Tensor) -> Tensor:
        name = f"blocks.{block}.attn2"
        x = x @ weights[f"{name}.to_{which}.weight"].T + weights[f"{name}.to_{which}.bias"]
        scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return (x * scale * weights[f"{name}.norm_{which}.weight"]).unflatten(-1, (2, 24))

    maps, shares = [], []
    for i in range(len(model.blocks)):
        q = heads(i, "q", seen["picture"][i])  # [N, L, heads, d]
        keys = [heads(i, "k", e[n]).mean(0) for e, n in zip(embedded, encoded.words, strict=True)]
        scores = torch.einsum("nlhd,khd->nhkl", q, torch.stack(keys)) / 24**0.5
        maps.append(scores.softmax(2).mean(1))
        attention = torch.einsum("nlhd,nshd->nhls", q, heads(i, "k", seen["text"][i])) / 24**0.5
        own = torch.arange(16) < torch.tensor([3, 2])[:, None]
        shares.append((attention.softmax(-1) * own[:, None, None]).sum(-1).mean(1))
    arguments = {"latent": x0, "prompt": prompts, "timesteps": [0.7]}
    got = read(wan, **arguments).concepts
    torch.testing.assert_close(
        got.flatten(2).double(), torch.stack(maps).mean(0), atol=1e-5, rtol=0
    )
    got = read(wan, **arguments, concepts=[PROMPT_WORDS]).concepts
    torch.testing.assert_close(
        got.flatten(2).double(), torch.stack(shares).mean(0)[:, None], atol=1e-5, rtol=0
    )
