import weakref
from functools import partial
from typing import Any

import pytest
import torch
from concept_reading import CONCEPT_ROWS, CONCEPTS, TIMES, latent, read
from torch import Tensor

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.backbones.concepts.reader import PROMPT_WORDS, check_concepts
from mmdiff_video.errors import InputError
from mmdiff_video.tasks import TASKS


@pytest.fixture(params=CONCEPT_ROWS)
def backbone(request: pytest.FixtureRequest, tiny: dict[str, Backbone]) -> Backbone:
    """One member of each family whose concept maps can be read."""
    return tiny[request.param]


def stream_of(backbone: Backbone) -> str:
    concepts = backbone.adapter.family.concepts
    assert concepts is not None
    return concepts.stream


def conditional_of(call: dict[str, Any], tokens: Tensor) -> dict[str, Any] | None:
    """The conditional row alone of a call of the transformer, or None if it has none."""
    rows = (call["encoder_hidden_states"] == tokens).flatten(1).all(dim=1).nonzero()
    if not len(rows):
        return None
    batch = len(call["encoder_hidden_states"])
    return {
        name: value[rows[0]] if isinstance(value, Tensor) and len(value) == batch > 1 else value
        for name, value in call.items()
    }


def test_maps_share_every_token_among_the_concepts(backbone: Backbone) -> None:
    maps = read(backbone).concepts
    frames = 3 if backbone.geometry.is_video else 1
    assert maps.shape == (2, 3, frames, 2, 3)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(2, frames, 2, 3))
    assert maps.std(dim=1).min() > 1e-4  # concepts differ
    assert maps.flatten(2).std(dim=2).min() > 1e-5  # and so do places
    assert read(backbone, concepts=None).concepts is None
    assert read(backbone, concepts=[]).concepts is None


def test_a_clip_gives_an_image_backbone_one_map_a_frame(tiny: dict[str, Backbone]) -> None:
    video = torch.rand(1, 3, 2, 32, 48, generator=torch.Generator().manual_seed(1))
    arguments = {"timesteps": [0.001], "concepts": CONCEPTS, "keys": ["a"]}
    both = tiny["flux"].extract(video, **arguments).concepts
    assert both is not None
    assert both.shape == (1, 3, 2, 2, 3)
    # each frame is seen on its own, under the noise of its place
    still = tiny["flux"].extract(video[:, :, [0, 0]], **arguments).concepts
    assert still is not None
    torch.testing.assert_close(still[:, :, 0], both[:, :, 0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(still[:, :, 1], both[:, :, 1], atol=1e-4)


@pytest.mark.parametrize("concepts", [CONCEPTS, [PROMPT_WORDS]])
def test_taps_are_bit_identical_with_and_without_concepts(
    backbone: Backbone, concepts: list[str]
) -> None:
    every = [spec.name for spec in backbone.tap_specs()]
    plain = read(backbone, taps=every, concepts=None)
    watched = read(backbone, taps=every, concepts=concepts)
    for name in every:
        assert torch.equal(plain.maps[name], watched.maps[name]), name
    model = backbone.pipeline.transformer
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("concepts", [CONCEPTS, [PROMPT_WORDS]])
@pytest.mark.parametrize("family", [*CONCEPT_ROWS, "schnell"])
def test_the_sample_is_bit_identical_with_and_without_concepts(
    tiny: dict[str, Backbone], family: str, concepts: list[str]
) -> None:
    draw = partial(tiny[family].generate, "a red ball", timesteps=(0.8, 0.4, 0.001), seed=5)
    plain, watched = draw(), draw(concepts=concepts)
    assert torch.equal(plain.video, watched.video)
    assert torch.equal(plain.features.latent, watched.features.latent)
    for name, m in plain.features.maps.items():
        assert torch.equal(m, watched.features.maps[name])
    assert plain.features.concepts is None
    frames = 2 if tiny[family].geometry.is_video else 1
    assert watched.features.concepts is not None
    assert watched.features.concepts.shape == (1, len(concepts), frames, 2, 3)


def test_maps_of_a_sample_are_those_of_its_own_forwards(backbone: Backbone) -> None:
    """Replay: the conditional forwards that the pipeline made, once more, read by hand."""
    calls: list[dict[str, Any]] = []
    model = backbone.pipeline.transformer
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    times = (0.8, 0.4, 0.001)
    features = backbone.generate(
        "a red ball", timesteps=times, concepts=CONCEPTS, taps=[], seed=5
    ).features
    handle.remove()
    text = backbone.encode_text(["a red ball"])
    conditional = [conditional_of(c, text.tokens) for c in calls]
    conditional = [c for c in conditional if c is not None]
    sigmas = backbone.pipeline.scheduler.sigmas.tolist()
    expected: list[Tensor] = []
    blocks = [s.index for s in backbone.tap_specs() if s.stream == stream_of(backbone)]
    reader = backbone.adapter.concept_reader(CONCEPTS, blocks, text)
    with reader.attached(expected.append), torch.no_grad():
        for sigma in features.sigmas[:2]:
            model(**conditional[sigmas.index(sigma)])
    grid = backbone.geometry.token_grid(5 if backbone.geometry.is_video else 1, 32, 48)
    near_clean = backbone.extract_latent(
        features.latent,
        "a red ball",
        [],
        [0.001],
        keys=["generate\0a red ball"],
        seed=5,
        guidance=backbone.defaults.guidance,
        concepts=CONCEPTS,
    ).concepts
    assert near_clean is not None
    expected = [m.unflatten(2, grid) for m in expected] + [near_clean]
    assert features.concepts is not None
    torch.testing.assert_close(features.concepts, torch.stack(expected).mean(0))


def test_concepts_cost_nothing_at_steps_that_are_not_read(tiny: dict[str, Backbone]) -> None:
    flux = tiny["flux"]
    calls: list[None] = []
    projection = flux.pipeline.transformer.transformer_blocks[0].attn.add_q_proj
    handle = projection.register_forward_hook(lambda *_: calls.append(None))
    for concepts, expected in ((None, 12), (CONCEPTS, 12 + 2)):
        calls.clear()
        flux.generate("a red ball", steps=12, timesteps=(0.8, 0.4), concepts=concepts)
        assert len(calls) == expected
    handle.remove()


@pytest.mark.parametrize("concepts", [CONCEPTS, [PROMPT_WORDS]])
def test_queries_are_gone_at_the_next_block(backbone: Backbone, concepts: list[str]) -> None:
    stream = stream_of(backbone)
    specs = [spec for spec in backbone.tap_specs() if spec.stream == stream]
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def count(*_: Any) -> None:
        alive.append(sum(queries() is not None for queries in made))

    handles = [backbone.pipeline.transformer.register_forward_hook(count)]
    for block in backbone.tap_modules(specs).values():
        attention: Any = getattr(block, "attn2" if stream == "block" else "attn")
        handles += [
            block.register_forward_pre_hook(count),
            attention.norm_q.register_forward_hook(lambda *a: made.append(weakref.ref(a[-1]))),
        ]
    # some steps are read, and some are not
    backbone.generate("a red ball", steps=6, timesteps=(0.8,), concepts=concepts)
    for handle in handles:
        handle.remove()
    assert len(made) > len(specs)
    assert set(alive) == {0}


def test_maps_average_over_blocks_and_timesteps(backbone: Backbone) -> None:
    blocks = [s.name for s in backbone.tap_specs() if s.stream == stream_of(backbone)]
    single = [
        read(backbone, concept_blocks=[name], timesteps=[t], taps=[]).concepts
        for name in blocks
        for t in TIMES
    ]
    torch.testing.assert_close(read(backbone).concepts, torch.stack(single).mean(0))
    last = read(backbone, concept_blocks=[-1])
    assert torch.equal(last.concepts, read(backbone, concept_blocks=[blocks[-1]]).concepts)


def test_a_map_does_not_depend_on_its_batch_or_chunk(backbone: Backbone) -> None:
    prompts, x0 = ["a red ball", "the blue chair in a room"], latent(backbone)
    for concepts in (CONCEPTS, [PROMPT_WORDS]):
        both = read(backbone, prompt=prompts, concepts=concepts).concepts
        parts = read(backbone, prompt=prompts, concepts=concepts, chunk=1).concepts
        second = read(
            backbone, latent=x0[1:], prompt=prompts[1:], keys=["b"], concepts=concepts
        ).concepts
        torch.testing.assert_close(both, parts, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-5)


def test_the_forward_stops_at_the_last_block_that_is_read(tiny: dict[str, Backbone]) -> None:
    flux = tiny["flux"]
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in flux.tap_modules(flux.tap_specs()).items()
    ]
    read(flux, taps=[], timesteps=[0.5], concept_blocks=["double.0"])
    assert ran == ["double.0"]
    ran.clear()
    read(flux, taps=["double.0"], timesteps=[0.5])
    assert ran == ["double.0", "double.1"]
    ran.clear()
    read(flux, taps=["single.0"], timesteps=[0.5])
    assert ran == ["double.0", "double.1", "single.0"]
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("family", ["wan", "flux"])
def test_own_words_end_before_the_end_token_and_padding(
    tiny: dict[str, Backbone], family: str
) -> None:
    # listed words are one token each
    text = tiny[family].encode_text(["a red ball", "a room", "", "a " * 40])
    for row, count in zip(text.words.tolist(), [3, 2, 1, 15], strict=True):
        assert row == [True] * count + [False] * (16 - count)
    assert torch.equal(text.rows(torch.tensor([1, 1])).words, text.words[[1, 1]])


@pytest.mark.parametrize("concepts", [CONCEPTS, [PROMPT_WORDS]])
@pytest.mark.parametrize("family", CONCEPT_ROWS)
def test_weights_may_come_and_go_layer_by_layer(
    tiny_folders: dict, family: str, concepts: list[str]
) -> None:
    """Offloading brings a module's weights in for its own call alone."""
    from accelerate import cpu_offload

    backbone = load_backbone(str(tiny_folders[family]), device="cpu")
    before = read(backbone, concepts=concepts)
    model = cpu_offload(backbone.pipeline.transformer, execution_device=torch.device("cpu"))
    after = read(backbone, concepts=concepts)
    assert torch.equal(before.concepts, after.concepts)
    assert {p.device.type for p in model.parameters()} == {"meta"}


@pytest.mark.parametrize("family", CONCEPT_ROWS)
def test_maps_in_bfloat16(tiny: dict[str, Backbone], tiny_folders: dict, family: str) -> None:
    rough = load_backbone(str(tiny_folders[family]), device="cpu", dtype=torch.bfloat16)
    for concepts in (CONCEPTS, [PROMPT_WORDS]):
        exact = read(tiny[family], concepts=concepts).concepts
        maps = read(rough, concepts=concepts).concepts
        assert maps.dtype == torch.float32
        # FLUX's own timestep embedding is already off by a step of bf16
        assert (maps - exact).abs().mean() < 0.2 * exact.mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concepts": "object"}, "must be a list"),
        ({"concepts": ["object"]}, "one concept alone"),
        ({"concepts": ["object", " object"]}, "twice"),
        ({"concepts": ["object", " "]}, "empty"),
        ({"concepts": [PROMPT_WORDS, "object"]}, "stands alone"),
        ({"concept_blocks": ["single.99"]}, "unknown tap 'single.99'"),
        ({"concept_blocks": [99]}, "unknown tap '99'"),
        ({"concept_blocks": []}, "no concept blocks"),
    ],
)
def test_bad_concepts_are_one_sentence(backbone: Backbone, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(backbone, **changes)


def test_every_task_has_concepts_that_are_accepted() -> None:
    for task in TASKS.values():
        assert check_concepts(task.concepts) == task.concepts
