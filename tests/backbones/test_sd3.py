"""What Stable Diffusion 3 does otherwise than the other families."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sd3_reference import SD3Reference
from tiny_cards import ROWS
from torch import Tensor

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.backbones.cards import load_card
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS
from mmdiff_video.backbones.nano.build import build
from mmdiff_video.backbones.noise import keyed_noise, noised
from mmdiff_video.errors import InputError

CONCEPTS = ("object", "background", "edge")
PROMPTS = ["a red ball", "a chair"]


def latent() -> Tensor:
    return torch.randn(2, 16, 1, 4, 6, generator=torch.Generator().manual_seed(0))


def read(backbone: Backbone, **changes: Any) -> Tensor:
    arguments = {"timesteps": [0.7], "concepts": CONCEPTS, "keys": ["a", "b"], "taps": []}
    found = backbone.extract_latent(latent(), PROMPTS, **(arguments | changes)).concepts
    assert found is not None
    return found.flatten(2).double()


def reference(backbone: Backbone, places: list[int], concepts: str) -> tuple[list, list]:
    noisy = noised(latent(), keyed_noise(["a", "b"], 0, (16, 1, 4, 6)), torch.tensor(0.7))
    text = backbone.encode_text(PROMPTS)
    return SD3Reference(backbone.pipeline.transformer).run(
        noisy[:, :, 0],
        0.7,
        text.tokens,
        text.tensors["pooled"],
        backbone.encode_text([concepts]).tokens[0, places],
    )


@pytest.fixture(scope="module")
def unnormed(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """As SD 3.0: neither dual attention nor norms of queries and keys."""
    card = ROWS["sd3"].tiny()
    sizes = {"dual_attention_layers": [], "qk_norm": None}
    folder = tmp_path_factory.mktemp("sd3") / "unnormed"
    build(replace(card, transformer=card.transformer | sizes), folder)
    return load_backbone(folder, device="cpu")


@pytest.fixture(params=["as medium", "as SD 3.0"])
def sd3(request: pytest.FixtureRequest, tiny: dict[str, Backbone], unnormed: Backbone) -> Backbone:
    return tiny["sd3"] if request.param == "as medium" else unnormed


def test_the_tiny_member_is_like_medium(tiny: dict[str, Backbone]) -> None:
    blocks = tiny["sd3"].pipeline.transformer.transformer_blocks
    assert [block.use_dual_attention for block in blocks] == [True, True, False]
    assert [block.context_pre_only for block in blocks] == [False, False, True]
    encoders = [getattr(tiny["sd3"].pipeline, f"text_encoder{n}") for n in ("", "_2", "_3")]
    assert [type(encoder).__name__ for encoder in encoders] == [
        "CLIPTextModelWithProjection",
        "CLIPTextModelWithProjection",
        "T5EncoderModel",
    ]


def test_maps_are_the_formula_written_out(sd3: Backbone) -> None:
    # listed words are one token each, behind the begin-of-text token
    maps, _ = reference(sd3, [0, 1, 2, 3], "object background edge")
    assert len(maps) == 3
    for i, expected in enumerate(maps):
        assert expected.std() > 1e-2  # nothing saturated: the comparison means something
        torch.testing.assert_close(read(sd3, concept_blocks=[i]), expected, atol=1e-5, rtol=0)
    # all blocks are read
    torch.testing.assert_close(read(sd3), torch.stack(maps).mean(0), atol=1e-5, rtol=0)


def test_a_concept_of_several_tokens_is_its_last(sd3: Backbone) -> None:
    concepts = ("red ball", "zz", "wall")  # two words, two letters, one word
    maps, _ = reference(sd3, [0, 2, 4, 5], "red ball zz wall")
    got = read(sd3, concepts=concepts)
    torch.testing.assert_close(got, torch.stack(maps).mean(0), atol=1e-5, rtol=0)


def test_the_share_of_the_prompts_own_words_is_that_of_all_its_encodings(sd3: Backbone) -> None:
    _, shares = reference(sd3, [0, 1], "object")
    own = torch.zeros(2, 1, 77 + 16, dtype=torch.float64)
    for row, count in enumerate((3, 2)):
        own[row, :, 1 : 1 + count] = 1  # CLIP, between begin and end
        own[row, :, 77 : 77 + count] = 1  # T5, before the end
    assert torch.equal(sd3.encode_text(PROMPTS).words, own[:, 0] > 0)
    expected = torch.stack([(share * own).sum(-1) for share in shares]).mean(0)[:, None]
    got = read(sd3, concepts=[PROMPT_WORDS])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_own_words_of_empty_and_endless_prompts(tiny: dict[str, Backbone]) -> None:
    words = tiny["sd3"].encode_text(["", "a " * 100]).words
    assert words[0].nonzero().flatten().tolist() == [1]  # CLIP's end token
    assert words[1].nonzero().flatten().tolist() == [*range(1, 76), *range(77, 77 + 15)]


def test_the_pooled_text_reaches_the_concepts(tiny: dict[str, Backbone]) -> None:
    sd3 = tiny["sd3"]
    text = sd3.encode_text(PROMPTS[:1])
    maps: list[Tensor] = []
    for factor in (1.0, 0.0):
        tensors = {**text.tensors, "pooled": factor * text.tensors["pooled"]}
        changed = type(text)(tensors, text.words)
        reader = sd3.adapter.concept_reader(CONCEPTS, [0], changed)
        with reader.attached(maps.append), torch.no_grad():
            sd3.velocity(latent()[:1], torch.tensor([0.6]), changed, None)
    assert (maps[0] - maps[1]).abs().max() > 1e-4


def test_more_concepts_than_fit_are_refused(tiny: dict[str, Backbone]) -> None:
    concepts = [f"{word} {i}" for i in range(10) for word in ("room", "wall", "lamp", "chair")]
    with pytest.raises(InputError, match=r"the concepts have 80 tokens, more than the 75 that fit"):
        read(tiny["sd3"], concepts=concepts)


def test_both_branches_are_in_one_batch_and_the_conditional_one_is_read(
    tiny: dict[str, Backbone],
) -> None:
    sd3 = tiny["sd3"]
    batches: list[dict[str, Tensor]] = []
    handle = sd3.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(kwargs), with_kwargs=True
    )
    sample = sd3.generate("a red ball", timesteps=[0.8], steps=4, negative_prompt="a chair")
    handle.remove()
    texts = sd3.encode_text(["a chair", "a red ball"])
    for batch in batches:
        assert torch.equal(batch["encoder_hidden_states"], texts.tokens)
        assert torch.equal(batch["pooled_projections"], texts.tensors["pooled"])
    step = sd3.pipeline.scheduler.sigmas.tolist().index(sample.features.sigmas[0])
    found: dict[str, Tensor] = {}
    specs = sd3.resolve_taps()
    handles = [
        module.register_forward_hook(
            lambda module, args, output, name=name: found.update({name: output[1]})
        )
        for name, module in sd3.tap_modules(specs).items()
    ]
    with torch.no_grad():
        sd3.pipeline.transformer(**batches[step])
    for handle in handles:
        handle.remove()
    for name, m in sample.features.maps.items():
        tokens = m[:, 0].flatten(2).transpose(1, 2)
        assert torch.equal(tokens, found[name][1:])
        assert not torch.allclose(tokens, found[name][:1], atol=1e-4)


def test_a_folder_without_our_card_has_the_familys_defaults(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folders["sd3"], tmp_path / "copy"))
    (folder / "mmdiff.json").unlink()
    backbone = load_backbone(folder, device="cpu")
    assert [spec.name for spec in backbone.resolve_taps()] == ["joint.0", "joint.1", "joint.2"]
    defaults = load_card("sd3.5-medium").defaults
    assert (backbone.defaults.steps, backbone.defaults.guidance) == (40, 4.5)
    assert backbone.defaults == replace(defaults, taps=backbone.defaults.taps)
    assert not backbone.untrained


def test_sides_beyond_the_table_of_positions_are_refused(tiny: dict[str, Backbone]) -> None:
    sd3 = tiny["sd3"]
    longest = sd3.pipeline.transformer.config.pos_embed_max_size * 16
    keys = {"keys": ["a"], "timesteps": [0.5], "taps": [0]}
    features = sd3.extract(torch.zeros(1, 3, 1, 32, longest), **keys)
    assert features.maps["joint.0"].shape[-2:] == (2, longest // 16)
    message = f"width {longest + 16} is more than {longest}"
    with pytest.raises(InputError, match=message):
        sd3.extract(torch.zeros(1, 3, 1, 32, longest + 16), **keys)
    with pytest.raises(InputError, match=message):
        sd3.generate("a red ball", width=longest + 16)
