"""What holds for every row of the table of families, before and after its tiny member is loaded."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import torch
from tiny_cards import ROWS
from torch import Tensor

from mmdiff_video.backbones import Backbone
from mmdiff_video.backbones.cards import load_card
from mmdiff_video.backbones.families import families, family_of
from mmdiff_video.backbones.family import Family, Picture, first_tokens, last_tokens
from mmdiff_video.backbones.latents import SHIFT_AND_FACTOR
from mmdiff_video.backbones.registry import fingerprint
from mmdiff_video.errors import InputError


@pytest.fixture(params=ROWS)
def family(request: pytest.FixtureRequest) -> Family:
    return ROWS[request.param]


def test_a_row_is_found_by_each_of_its_pipelines(family: Family) -> None:
    for pipeline in family.pipelines:
        assert family_of(pipeline, "a folder") is family
    with pytest.raises(InputError, match=r"'x' is a FooPipeline.*valid: WanPipeline"):
        family_of("FooPipeline", "x")


def test_a_row_names_classes_and_streams_that_there_are(family: Family) -> None:
    parts = family.components
    for name in (*family.pipelines, parts.transformer, parts.vae, parts.scheduler):
        assert hasattr(diffusers, name)
    names = [stream.name for stream in family.streams]
    assert len(set(names)) == len(names)
    assert family.default_stream in names
    assert family.concepts is None or family.concepts.stream in names
    assert load_card(family.card).pipeline in family.pipelines


def test_the_table_is_read_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from mmdiff_video.backbones.families import families; families();"
        "sys.exit(any(m in sys.modules for m in ('diffusers', 'transformers', 'accelerate')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tiny_member_is_what_its_card_says(family: Family, tiny: dict[str, Backbone]) -> None:
    card = family.tiny()
    assert card.pipeline in family.pipelines
    name = next(name for name, row in ROWS.items() if row is family)
    pipeline = tiny[name].pipeline
    assert type(pipeline).__name__ == card.pipeline
    assert tiny[name].tap_specs() == list(family.layout(card.transformer, card.vae).taps)
    for stream in family.streams:
        blocks = getattr(pipeline.transformer, stream.blocks)
        assert len(blocks) == card.transformer[stream.depth]
    for part in ("transformer", "vae", "scheduler"):
        assert type(getattr(pipeline, part)).__name__ == getattr(family.components, part)
    # sides and widths that no square or swapped axis passes for
    defaults = card.defaults
    assert defaults.height != defaults.width


def test_normalising_and_packing_have_inverses(backbone: Backbone) -> None:
    latents, vae = backbone.adapter.family.latents, backbone.pipeline.vae
    frames = 3 if backbone.geometry.is_video else 1
    shape = (2, backbone.geometry.channels, frames, 4, 6)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latents.scale.restore(vae, latents.scale.normalise(vae, x)), x)
    packed = latents.packing.pack(x)
    assert torch.equal(latents.packing.unpack(packed, (frames, 4, 6)), x)


def test_an_autoencoder_without_a_shift_has_none_added() -> None:
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=0.5, shift_factor=None))
    x = torch.arange(4.0).reshape(1, 1, 1, 2, 2)
    assert torch.equal(SHIFT_AND_FACTOR.normalise(vae, x), x / 2)
    assert torch.equal(SHIFT_AND_FACTOR.restore(vae, x), x * 2)


def test_latents_of_pictures_have_about_unit_scale(backbone: Backbone) -> None:
    """And what is decoded from them is what the autoencoder makes of its own raw latents."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 48), indexing="ij")
    frames = 5 if backbone.geometry.is_video else 1
    video = torch.stack([x, y, 1 - x])[None, :, None].expand(-1, -1, frames, -1, -1)
    latent = backbone.encode(video)
    assert 0.2 < latent.std() < 5
    vae, pictures = backbone.pipeline.vae, video * 2 - 1
    with torch.no_grad():
        if backbone.geometry.is_video:
            raw = vae.encode(pictures).latent_dist.mode()
            decoded = vae.decode(raw).sample
        else:
            raw = vae.encode(pictures[:, :, 0]).latent_dist.mode()
            decoded = vae.decode(raw).sample[:, :, None]
    torch.testing.assert_close(
        backbone.decode(latent), (decoded / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=1e-4
    )


def test_each_prompt_has_its_row_of_every_tensor(backbone: Backbone) -> None:
    prompts = ["a red ball", "a chair in a room"]
    both = backbone.encode_text(prompts)
    told = backbone.adapter.family.text
    assert set(both.tensors) == {*told.transformer, *told.pipeline, *told.negative}
    assert both.words.shape == both.tokens.shape[:2]
    for i, prompt in enumerate(prompts):
        alone = backbone.encode_text([prompt])
        for name, tensor in both.rows(torch.tensor([1, i])).tensors.items():
            assert torch.equal(tensor[1:], alone.tensors[name])
    for tensor in both.tensors.values():
        assert not torch.equal(tensor[0], tensor[1])


def test_a_negative_prompt_is_refused_where_there_is_no_such_branch(backbone: Backbone) -> None:
    text = backbone.encode_text(["a red ball"])
    family = backbone.adapter.family
    if family.text.negative:
        given = backbone.adapter.call_arguments(text, "blurry", 4.0, 1)
        assert set(family.text.negative.values()) <= set(given)
        # without guidance the branch does not run
        given = backbone.adapter.call_arguments(text, None, 1.0, 1)
        assert not set(family.text.negative.values()) & set(given)
    else:
        with pytest.raises(InputError, match="takes no negative prompt"):
            backbone.adapter.call_arguments(text, "blurry", 4.0, 1)


def test_fingerprints_are_of_the_folder(
    tiny: dict[str, Backbone], tiny_folders: dict[str, Path]
) -> None:
    prints = {name: backbone.fingerprint for name, backbone in tiny.items()}
    assert prints == {name: fingerprint(folder) for name, folder in tiny_folders.items()}
    assert len(set(prints.values())) == len(prints)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Picture(), "ptq"),
        (Picture(part=first_tokens), "pt"),
        (Picture(part=last_tokens), "tq"),
        (Picture(item=1, part=last_tokens), "tq"),
    ],
)
def test_a_picture_is_cut_out_of_a_sequence(picture: Picture, expected: str) -> None:
    sequence = torch.tensor([[[ord(c)] for c in "ptq"]])
    output = sequence if picture.item is None else (None, sequence)
    found = picture.tokens(output, 2)
    assert "".join(map(chr, found[0, :, 0].tolist())) == expected


def test_a_sequence_may_come_before_the_batch() -> None:
    sequence: Tensor = torch.arange(12).reshape(3, 2, 2)  # [S, N, C]
    found = Picture(axis=0, part=first_tokens).tokens(sequence, 2)
    assert torch.equal(found, sequence[:2].transpose(0, 1))


def test_every_module_of_the_table_has_a_row_of_its_own() -> None:
    assert set(families().values()) == set(ROWS.values())
