import logging
import os
from pathlib import Path

import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given
from hypothesis import strategies as st
from tiny_cards import ROWS

from mmdiff_video.backbones import Backbone, extract, load_backbone
from mmdiff_video.backbones.batching import for_row_chunks, incoming_bytes, rows_that_fit
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.errors import InputError

TIMES = (0.78, 0.26, 0.001)


def clip(frames: int = 5, height: int = 32, width: int = 48, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, frames, height, width, generator=torch.Generator().manual_seed(3))


def assert_close(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=1e-5)


def test_shapes_of_a_non_square_clip(backbone: Backbone) -> None:
    video = clip()
    latent = backbone.encode(video)
    frames = 2 if backbone.geometry.is_video else 5
    width = backbone.tap_specs()[0].width
    assert latent.shape == (2, backbone.geometry.channels, frames, 4, 6)
    assert latent.dtype == torch.float32
    decoded = backbone.decode(latent)
    assert decoded.shape == video.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    features = backbone.extract(video, timesteps=TIMES, keys=["a", "b"])
    assert list(features.maps) == [spec.name for spec in backbone.resolve_taps()]
    for m in features.maps.values():
        assert m.shape == (2, 3, width, frames, 2, 3)
        assert m.is_contiguous()
    assert features.timesteps == features.sigmas == TIMES
    assert torch.equal(features.latent, latent)
    assert features.untrained


@pytest.mark.parametrize("family", ROWS)
def test_a_bf16_vae_is_given_what_the_stock_pipelines_give_it(
    tiny_folders: dict[str, Path], family: str
) -> None:
    rough = load_backbone(tiny_folders[family], device="cpu", dtype=torch.bfloat16)
    video = clip()
    normalized = VaeImageProcessor.normalize(video)
    assert isinstance(normalized, torch.Tensor)
    with torch.no_grad():
        adapter = rough.adapter
        latent = adapter.family.latents.encode(
            rough.pipeline.vae, adapter.fold(normalized).bfloat16()
        )
    assert torch.equal(rough.encode(video), adapter.unfold(latent.float(), len(video)))


def test_one_picture_is_a_one_frame_video(backbone: Backbone) -> None:
    features = backbone.extract(clip(frames=1, count=1), timesteps=TIMES, keys=["a"])
    width = backbone.tap_specs()[0].width
    assert next(iter(features.maps.values())).shape == (1, 3, width, 1, 2, 3)


def test_extract_repeats_itself_and_depends_on_seed_key_and_prompt(backbone: Backbone) -> None:
    latent = backbone.encode(clip(count=1))

    def read(**changes) -> torch.Tensor:
        arguments = {"prompt": "a chair", "timesteps": [0.78], "keys": ["a"]} | changes
        return next(iter(backbone.extract_latent(latent, **arguments).maps.values()))

    first = read()
    assert torch.equal(first, read())
    for change in ({"seed": 1}, {"keys": ["b"]}, {"prompt": "a red ball"}, {"timesteps": [0.7]}):
        assert not torch.allclose(first, read(**change), atol=1e-4), change


def test_grid_positions_match_the_picture(backbone: Backbone) -> None:
    """A change in one corner of the latent shows most in that corner of the first tap's map."""
    first = backbone.tap_specs()[0].name
    latent = torch.zeros(1, backbone.geometry.channels, 1, 4, 6)
    changed = latent.clone()
    changed[..., 2:, 4:] = 3.0  # bottom right token of 2 x 3

    def read(x: torch.Tensor) -> torch.Tensor:
        features = backbone.extract_latent(x, taps=[first], timesteps=[0.001], keys=["a"])
        return features.maps[first][0, 0, :, 0]  # [C, H, W]

    difference = (read(changed) - read(latent)).norm(dim=0)
    assert difference.argmax() == 5


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunking_changes_nothing(backbone: Backbone, chunk: int) -> None:
    latent = backbone.encode(clip())
    whole = backbone.extract_latent(latent, ["a", "b"], timesteps=TIMES, keys=["a", "b"])
    parts = backbone.extract_latent(
        latent, ["a", "b"], timesteps=TIMES, keys=["a", "b"], chunk=chunk
    )
    assert_close(whole.maps, parts.maps)


def test_all_timesteps_at_once_equal_one_at_a_time(backbone: Backbone) -> None:
    latent = backbone.encode(clip())
    together = backbone.extract_latent(latent, timesteps=TIMES, keys=["a", "b"])
    for i, t in enumerate(TIMES):
        alone = backbone.extract_latent(latent, timesteps=[t], keys=["a", "b"])
        assert_close({n: m[:, i : i + 1] for n, m in together.maps.items()}, dict(alone.maps))


def test_a_sample_does_not_depend_on_its_batch(backbone: Backbone) -> None:
    video = clip()
    both = backbone.extract(video, ["a", "b"], timesteps=TIMES, keys=["a", "b"])
    second = backbone.extract(video[1:], ["b"], timesteps=TIMES, keys=["b"])
    assert_close({n: m[1:] for n, m in both.maps.items()}, dict(second.maps))


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True), st.integers(0, 2**63 - 1)
)
def test_noise_comes_from_key_and_seed_alone(keys: list[str], seed: int) -> None:
    together = keyed_noise(keys, seed, (2, 3))
    for key, noise in zip(keys, together, strict=True):
        assert torch.equal(keyed_noise([key], seed, (2, 3))[0], noise)
    assert not torch.equal(together[0], keyed_noise(keys[:1], seed + 1, (2, 3))[0])


def test_noising_agrees_with_the_scheduler_on_its_own_grid(backbone: Backbone) -> None:
    scheduler = type(backbone.pipeline.scheduler).from_config(backbone.pipeline.scheduler.config)
    kwargs = {"mu": 1.0} if scheduler.config.use_dynamic_shifting else {}
    scheduler.set_timesteps(6, **kwargs)
    latent = torch.randn(1, 16, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    eps = keyed_noise(["a"], 7, latent.shape[1:])
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        at = timestep.reshape(1)
        if hasattr(scheduler, "scale_noise"):
            expected = scheduler.scale_noise(latent, at, eps)
        else:
            expected = scheduler.add_noise(latent, eps, at)
        ours = backbone.adapter.family.noised(latent, eps, sigma)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_the_noisy_latent_is_drawn_from_key_and_seed_at_each_timestep(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    forward = backbone.adapter.velocity

    def watched(noisy: torch.Tensor, *rest):
        seen.append(noisy)
        return forward(noisy, *rest)

    monkeypatch.setattr(backbone.adapter, "velocity", watched)
    latent = torch.ones(2, backbone.geometry.channels, 1, 4, 4)
    backbone.extract_latent(latent, timesteps=[0.0, 0.25, 1.0], keys=["a", "b"], seed=3)
    eps = keyed_noise(["a", "b"], 3, latent.shape[1:])
    rows = [(1 - t) * latent[i] + t * eps[i] for i in range(2) for t in (0.0, 0.25, 1.0)]
    torch.testing.assert_close(torch.cat(seen), torch.stack(rows))
    assert seen[0].dtype == torch.float32


def test_wrong_sizes_are_refused_with_the_nearest_that_fit(tiny: dict[str, Backbone]) -> None:
    for frames, height, width, message in (
        (16, 32, 48, "16 frames .* 13 or 17"),
        (17, 36, 48, "height 36 .* 32 or 48"),
        (17, 32, 8, "width 8 .* 16"),
    ):
        with pytest.raises(InputError, match=message):
            tiny["wan"].encode(torch.zeros(1, 3, frames, height, width))
        with pytest.raises(InputError, match=message):
            tiny["wan"].generate("x", frames=frames, height=height, width=width)
    for size, message in (
        ({"height": 0}, r"height 0 is not a positive multiple of 16 \(nearest: 16\)"),
        ({"width": -16}, r"width -16 is not a positive multiple of 16 \(nearest: 16\)"),
        ({"frames": 0}, "frames must be at least 1, not 0"),
    ):
        for backbone in tiny.values():
            with pytest.raises(InputError, match=message):
                backbone.generate("x", **size)
    with pytest.raises(InputError, match=r"height 100 .* 96 or 112.*width 120 .* 112 or 128"):
        tiny["flux"].extract(torch.zeros(1, 3, 1, 100, 120), keys=["a"])
    with pytest.raises(InputError, match="frames must be 1"):
        tiny["flux"].generate("x", frames=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taps": ["block.99"]}, "unknown tap 'block.99'"),
        ({"timesteps": [1.5]}, "1.5 is outside"),
        ({"timesteps": []}, "no timesteps"),
        ({"timesteps": [0.5, 0.5]}, "twice"),
        ({"keys": ["a"]}, "2 samples"),
        ({"keys": "ab"}, "2 samples"),
        ({"prompt": ["x"] * 3}, "3 prompts for 2"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_bad_arguments_are_one_sentence(backbone: Backbone, changes: dict, message: str) -> None:
    arguments = {"keys": ["a", "b"]} | changes
    with pytest.raises(InputError, match=message):
        backbone.extract_latent(torch.zeros(2, 16, 1, 4, 4), **arguments)


def test_a_picture_without_a_frame_axis_is_refused(backbone: Backbone) -> None:
    with pytest.raises(InputError, match=r"\[B, 3, F, H, W\]"):
        backbone.encode(torch.zeros(1, 3, 32, 32))


def test_each_prompt_is_encoded_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    texts = backbone.adapter._texts
    encode = texts._encode

    def counted(prompt: str):
        calls.append(prompt)
        return encode(prompt)

    monkeypatch.setattr(texts, "_encode", counted)
    text = backbone.encode_text(["once upon", "a time", "once upon"])
    assert calls == ["once upon", "a time"]
    assert torch.equal(text.tokens[0], text.tokens[2])
    clip_tokens = 77 if "tokenizer_3" in backbone.pipeline.components else 0  # before T5's
    assert text.tokens.shape == (3, clip_tokens + 16, 32)
    backbone.encode_text([f"filler {i}" for i in range(100)])
    assert len(texts._kept) <= 64
    calls.clear()
    backbone.encode_text(["once upon", "filler 99"])
    assert calls == ["once upon"]


def test_text_is_what_the_stock_pipeline_makes(tiny: dict[str, Backbone]) -> None:
    prompt = "a  caf\u00c3\u00a9 &amp; a red ball\n"  # double-encoded, escaped, untidy
    wan, flux = tiny["wan"], tiny["flux"]
    with torch.no_grad():
        tokens, _ = wan.pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=16
        )
        flux_tokens, pooled, _ = flux.pipeline.encode_prompt(prompt, None, max_sequence_length=16)
    assert torch.equal(wan.encode_text([prompt]).tokens, tokens)
    # Wan's cleaning needs ftfy, without which the same prompt would silently mean another
    assert torch.equal(tokens, wan.encode_text(["a caf\u00e9 & a red ball"]).tokens)
    ours = flux.encode_text([prompt])
    assert torch.equal(ours.tokens, flux_tokens)
    assert torch.equal(ours.tensors["pooled"], pooled)


def test_weights_are_frozen_and_outputs_usable_in_a_graph(backbone: Backbone) -> None:
    for component in backbone.pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            assert not component.training
            assert not any(p.requires_grad for p in component.parameters())
    features = backbone.extract(clip(count=1), timesteps=[0.5], keys=["a"])
    head = torch.nn.Linear(backbone.tap_specs()[0].width, 1)
    head(next(iter(features.maps.values())).movedim(2, -1)).sum().backward()
    assert head.weight.grad is not None


def test_memory_exhaustion_halves_the_chunk_and_says_so(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shape = (3, backbone.geometry.channels, 1, 4, 4)
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    arguments = {"timesteps": TIMES, "keys": ["a", "b", "c"]}
    expected = backbone.extract_latent(latent, **arguments)
    larger = torch.randn(3, backbone.geometry.channels, 1, 4, 6)
    adapter = backbone.adapter
    forward, rows = adapter.velocity, []

    def tight(noisy: torch.Tensor, *rest):
        rows.append(len(noisy))
        if len(noisy) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(noisy, *rest)

    monkeypatch.setattr(adapter, "chunk_limits", {})
    monkeypatch.setattr(adapter, "velocity", tight)
    with caplog.at_level(logging.WARNING):
        features = backbone.extract_latent(latent, **arguments)
    assert rows == [9, 4, 2, 2, 2, 2, 1]
    assert "9 rows in one forward: going on with 4" in caplog.text
    assert_close(features.maps, expected.maps)
    # what did not fit is not tried again, but at another size
    rows.clear()
    backbone.extract_latent(latent, **arguments)
    backbone.extract_latent(latent, **arguments, chunk=6)
    backbone.extract_latent(latent, **arguments, chunk=1)
    assert rows == [2, 2, 2, 2, 1] * 2 + [1] * 9
    rows.clear()
    backbone.extract_latent(larger, **arguments)
    assert rows[:2] == [9, 4]


def test_weights_that_are_still_on_the_cpu_leave_less_room(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, cuda = backbone.pipeline.transformer, torch.device("cuda")
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    assert incoming_bytes(model, cuda) == size
    assert incoming_bytes(model, torch.device("cpu")) == 0
    with torch.device("meta"):  # where layers that come one at a time wait
        assert incoming_bytes(torch.nn.Linear(4, 4), cuda) == 0

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * size, 20 * size))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * size)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: size)
    row = (100, 8, torch.bfloat16, cuda)
    assert rows_that_fit(*row, incoming=size) == pytest.approx(rows_that_fit(*row) * 10 / 11, abs=1)
    assert rows_that_fit(*row, incoming=30 * size) == 1


def test_the_chunk_is_chosen_with_waiting_weights_in_mind(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forward = backbone.adapter.velocity

    def watched(noisy: torch.Tensor, *rest):
        rows.append(len(noisy))
        return forward(noisy, *rest)

    monkeypatch.setattr(backbone.adapter, "velocity", watched)
    monkeypatch.setattr(extract, "incoming_bytes", lambda model, device: 2)
    monkeypatch.setattr(extract, "rows_that_fit", lambda *row: row[-1])
    latent = torch.zeros(1, backbone.geometry.channels, 1, 4, 4)
    backbone.extract_latent(latent, timesteps=TIMES, keys=["a"])
    assert rows == [2, 1]


def test_a_single_row_that_does_not_fit_is_an_error() -> None:
    def never(part: slice) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        for_row_chunks(4, 4, never)


@given(st.integers(1, 40), st.integers(1, 50))
def test_chunks_cover_all_rows_once(rows: int, chunk: int) -> None:
    seen: list[int] = []
    for_row_chunks(rows, chunk, lambda part: seen.extend(range(rows)[part]))
    assert seen == list(range(rows))


def test_the_estimate_is_at_least_one_row() -> None:
    assert rows_that_fit(10**9, 10**4, torch.float32, torch.device("cpu")) == 1
    small = rows_that_fit(100, 100, torch.float32, torch.device("cpu"))
    assert rows_that_fit(100, 100, torch.bfloat16, torch.device("cpu")) == pytest.approx(
        2 * small, abs=1
    )


def test_noise_of_files_whose_names_are_no_utf8():
    keys = [os.fsdecode(b"stra\xdfe.png"), os.fsdecode(b"stra\xe0e.png"), "straße.png"]
    noise = keyed_noise(keys, 0, (4,))
    assert len(set(noise[:, 0].tolist())) == 3
