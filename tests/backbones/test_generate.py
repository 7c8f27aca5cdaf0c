import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_cards import ROWS
from torch import nn

from mmdiff_video.backbones import Backbone, load_defaults
from mmdiff_video.backbones.sample import _row_with, assign_steps, run_tapped
from mmdiff_video.errors import InputError

PROMPT = "a red ball in a room"
TIMES = (0.8, 0.5, 0.3, 0.001)


def size_of(backbone: Backbone) -> tuple[int, int, int]:
    """Frames, height and width of :func:`stock_run`."""
    return 5 if backbone.geometry.is_video else 1, 32, 48


def stock_run(folder: Path, guidance: float, seed: int, **changes: Any) -> tuple[Any, list]:
    """The plain diffusers pipeline, without any of our code; also its latents after every step."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    latents: list[torch.Tensor] = []

    def record(pipe: Any, step: int, t: Any, values: dict) -> dict:
        latents.append(values["latents"].clone())
        return {}

    arguments: dict[str, Any] = {
        "height": 32,
        "width": 48,
        "num_inference_steps": 12,
        "guidance_scale": guidance,
        "generator": torch.Generator("cpu").manual_seed(seed),
        "output_type": "pt",
        "callback_on_step_end": record,
    }
    with torch.no_grad():
        if "Wan" in type(pipeline).__name__:
            positive, negative = pipeline.encode_prompt(
                PROMPT, changes.pop("negative_prompt", None), max_sequence_length=16
            )
            arguments |= {"prompt_embeds": positive, "num_frames": 5}
            if guidance > 1:
                arguments["negative_prompt_embeds"] = negative
            output = pipeline(**arguments).frames.transpose(1, 2)
        else:
            arguments |= {name: value for name, value in changes.items() if value is not None}
            output = pipeline(PROMPT, max_sequence_length=16, **arguments).images[:, :, None]
    return output, latents


@pytest.mark.parametrize(
    ("family", "guidance", "negative"),
    [(name, None, None) for name in ROWS]
    + [(name, None, "blurry") for name, row in ROWS.items() if row.text.negative]
    + [(name, 1.0, None) for name in ROWS]
    + [("schnell", 0.0, None)],
)
def test_the_sample_is_bit_identical_to_the_stock_pipelines(
    tiny: dict[str, Backbone],
    tiny_folders: dict[str, Path],
    family: str,
    guidance: float | None,
    negative: str | None,
) -> None:
    backbone = tiny[family]
    guidance = backbone.defaults.guidance if guidance is None else guidance
    expected, latents = stock_run(tiny_folders[family], guidance, 11, negative_prompt=negative)
    sample = backbone.generate(
        PROMPT, timesteps=TIMES, guidance=guidance, negative_prompt=negative, seed=11
    )
    assert torch.equal(sample.video, expected)
    assert sample.video.shape == (1, 3, *size_of(backbone))
    final = backbone.adapter.sampled_latent(latents[-1], *size_of(backbone))
    assert torch.equal(sample.features.latent, final)
    other = backbone.generate(PROMPT, timesteps=TIMES, guidance=guidance, seed=12)
    assert not torch.equal(other.video, sample.video)


@pytest.mark.parametrize(("family", "cards"), [("wan", ("wan", "wan-14b")), ("flux", ("flux",))])
def test_the_cards_pad_prompts_as_the_stock_call_does_by_itself(
    tiny_folders: dict[str, Path], family: str, cards: tuple[str, ...]
) -> None:
    """What Wan sees of the padding is part of what it was trained on: it is not masked."""
    from diffusers import DiffusionPipeline

    folder = tiny_folders[family]
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    lengths = set()
    pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.add(kwargs["encoder_hidden_states"].shape[1]),
        with_kwargs=True,
    )
    with torch.no_grad():
        pipeline(PROMPT, height=32, width=48, num_inference_steps=1, output_type="latent")
    assert lengths == {load_defaults(name).text_tokens for name in cards}


@torch.no_grad()
def outputs_of(modules: dict[str, nn.Module], forward: Callable[[], object]) -> dict[str, Any]:
    """What the modules put out in a forward, read without our tapping code."""
    read: dict[str, Any] = {}

    def hook(name: str) -> Callable[..., None]:
        return lambda module, args, output: read.update({name: output})

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    forward()
    for handle in handles:
        handle.remove()
    return read


@pytest.mark.parametrize(
    ("family", "guidance"), [(name, scale) for name in ROWS for scale in (1.0, 4.5)]
)
def test_taps_are_those_of_the_conditional_forward_at_the_recorded_sigma(
    tiny: dict[str, Backbone], tiny_folders: dict[str, Path], family: str, guidance: float
) -> None:
    """Replay: the stock run's latent before the step, forwarded by hand with the prompt's text."""
    backbone = tiny[family]
    _, latents = stock_run(tiny_folders[family], guidance, 11)
    features = backbone.generate(PROMPT, timesteps=TIMES, guidance=guidance, seed=11).features
    scheduler = backbone.pipeline.scheduler  # still holds the schedule of that run
    sigmas = scheduler.sigmas[:-1].tolist()
    text = backbone.encode_text([PROMPT])
    specs = {spec.name: spec for spec in backbone.resolve_taps()}
    modules = backbone.tap_modules(list(specs.values()))
    for i, (t, sigma) in enumerate(zip(features.timesteps, features.sigmas, strict=True)):
        if t == 0.001:
            continue
        step = sigmas.index(sigma)
        assert abs(sigma - t) == min(abs(s - t) for s in sigmas)
        before = backbone.adapter.sampled_latent(latents[step - 1], *size_of(backbone))
        at = scheduler.timesteps[step].reshape(1) / 1000  # the number that the pipeline gave
        read = outputs_of(modules, partial(backbone.velocity, before, at.float(), text, guidance))
        for name, m in features.maps.items():
            tokens = m[:, i].flatten(2).transpose(1, 2)
            expected = backbone.adapter.picture_tokens(specs[name], read[name], tokens.shape[1])
            torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_the_transformer_is_told_the_time_as_the_pipeline_tells_it(backbone: Backbone) -> None:
    calls: list[torch.Tensor] = []
    handle = backbone.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs["timestep"]), with_kwargs=True
    )
    backbone.generate(PROMPT, taps=[], steps=5, guidance=1.0)
    handle.remove()
    timestep = backbone.adapter.family.timestep
    sigmas = backbone.pipeline.scheduler.sigmas[: len(calls)]
    assert len(calls) == 5
    # a scheduler may truncate to whole thousandths
    step = 1e-3 * float(timestep(torch.ones(())))
    theirs = torch.cat(calls).float()
    torch.testing.assert_close(theirs, timestep(sigmas), atol=step, rtol=0)


def test_near_clean_timestep_equals_extract_on_the_final_latent(backbone: Backbone) -> None:
    features = backbone.generate(PROMPT, timesteps=TIMES, seed=3).features
    extracted = backbone.extract_latent(
        features.latent, PROMPT, timesteps=[0.001], keys=[f"generate\0{PROMPT}"], seed=3
    )
    assert features.sigmas[3] == 0.001
    for name, m in features.maps.items():
        assert m.shape[:2] == (1, 4)
        torch.testing.assert_close(m[:, 3:], extracted.maps[name], atol=1e-6, rtol=1e-6)


def test_order_of_timesteps_is_the_callers(backbone: Backbone) -> None:
    forward = backbone.generate(PROMPT, timesteps=TIMES, seed=3).features
    backward = backbone.generate(PROMPT, timesteps=TIMES[::-1], seed=3).features
    assert backward.sigmas == forward.sigmas[::-1]
    for name, m in forward.maps.items():
        assert torch.equal(m.flip(1), backward.maps[name])


def test_a_schedule_too_short_is_refused_before_any_block_runs(backbone: Backbone) -> None:
    ran: list[int] = []
    (first,) = backbone.tap_modules(backbone.tap_specs()[:1]).values()
    handle = first.register_forward_hook(lambda *_: ran.append(1))
    try:
        with pytest.raises(InputError, match=r"0.5 and 0.45 both fall on sigma .* 3 steps"):
            backbone.generate(PROMPT, timesteps=[0.5, 0.45], steps=3)
    finally:
        handle.remove()
    assert not ran
    assert not backbone.pipeline.transformer._forward_pre_hooks


@pytest.mark.parametrize("steps", [0, -1])
def test_a_sampler_without_steps_is_refused(backbone: Backbone, steps: int) -> None:
    with pytest.raises(InputError, match=f"steps is {steps}: it must be 1 or more"):
        backbone.generate(PROMPT, steps=steps)


def test_a_guidance_that_is_no_number_is_refused(backbone: Backbone) -> None:
    with pytest.raises(InputError, match="guidance is nan: it must be a finite number"):
        backbone.generate(PROMPT, guidance=math.nan)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(backbone: Backbone, seed: int) -> None:
    with pytest.raises(InputError, match=f"seed is {seed}: a seed must be from 0"):
        backbone.generate(PROMPT, seed=seed)
    with pytest.raises(InputError, match=f"seed is {seed}: a seed must be from 0"):
        backbone.extract(torch.zeros(1, 3, 1, 32, 32), keys=["a"], seed=seed)


def test_flux_takes_no_negative_prompt(tiny: dict[str, Backbone]) -> None:
    with pytest.raises(InputError, match="negative prompt"):
        tiny["flux"].generate(PROMPT, negative_prompt="blurry")


def test_guidance_distilled_model_needs_a_guidance_value(tiny: dict[str, Backbone]) -> None:
    text = tiny["flux"].encode_text(["x"])
    with pytest.raises(InputError, match="guidance"):
        tiny["flux"].velocity(torch.zeros(1, 16, 1, 4, 4), torch.tensor([0.5]), text, None)


def test_nearest_steps_and_near_clean() -> None:
    steps, near_clean = assign_steps([0.78, 0.52, 0.001], [1.0, 0.8, 0.5, 0.2])
    assert steps == {1: 0.78, 2: 0.52}
    assert near_clean == [0.001]
    # as near to 0 as to the last sigma: the schedule reaches it
    assert assign_steps([0.1], [1.0, 0.2]) == ({1: 0.1}, [])
    with pytest.raises(InputError, match=r"both fall on sigma 0\.500"):
        assign_steps([0.52, 0.5], [1.0, 0.5])


@pytest.mark.parametrize("steps", range(1, 13))
def test_schnells_card_says_in_how_many_steps_its_timesteps_are_read(
    tiny: dict[str, Backbone], steps: int
) -> None:
    times = load_defaults("flux-schnell").timesteps
    # schnell's own schedule (the tiny model's is bent by the picture's size)
    sigmas = [1 - i / steps for i in range(steps)]
    if steps < 4:
        with pytest.raises(InputError, match="both fall on sigma"):
            assign_steps(times, sigmas)
        with pytest.raises(InputError, match="both fall on sigma"):
            tiny["schnell"].generate(PROMPT, timesteps=times, steps=steps, seed=1)
        return
    assert len(assign_steps(times, sigmas)[0]) == 3  # 0.001 is read from the final latent
    features = tiny["schnell"].generate(PROMPT, timesteps=times, steps=steps, seed=1).features
    assert features.timesteps == tuple(times)
    assert len(set(features.sigmas)) == 4


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=30, unique=True),
)
def test_every_timestep_is_assigned_to_its_nearest_or_refused(
    times: list[float], sigmas: list[float]
) -> None:
    sigmas = sorted(sigmas, reverse=True)
    try:
        steps, near_clean = assign_steps(times, sigmas)
    except InputError:
        return
    assert sorted([*steps.values(), *near_clean]) == sorted(times)
    for step, t in steps.items():
        assert abs(sigmas[step] - t) == min(abs(s - t) for s in sigmas)


def test_a_row_is_conditional_when_all_its_texts_are() -> None:
    """The pooled text too: a branch with the same tokens and another pooled vector is another."""
    tokens, pooled = torch.ones(1, 2, 3), torch.ones(1, 4)
    given = {"tokens": torch.ones(3, 2, 3), "pooled": torch.ones(3, 4)}
    given["tokens"][0] = 0
    given["pooled"][1] = 0
    assert _row_with({"tokens": tokens, "pooled": pooled}, given) == 2
    assert _row_with({"tokens": tokens}, given) == 1
    assert _row_with({"tokens": 2 * tokens, "pooled": pooled}, given) is None
    assert _row_with({"tokens": torch.ones(1, 5, 3)}, given) is None


class UnusualOrder:
    """A pipeline with the unconditional branch first, then none, then both in one batch."""

    def __init__(self, conditional: torch.Tensor, unconditional: torch.Tensor):
        self.scheduler = SimpleNamespace(
            sigmas=torch.tensor([1.0, 0.6, 0.3, 0.0]),
            timesteps=torch.tensor([1000, 600, 300]),
            begin_index=0,
            step_index=None,
        )
        self.transformer = _Adder()
        both = torch.cat([unconditional, conditional])
        self.calls = [[unconditional, conditional], [conditional], [both]]

    def __call__(self, callback_on_step_end: Any) -> str:
        for i, texts in enumerate(self.calls):
            for text in texts:
                x = torch.full((len(text), 1, 1), float(i))
                self.transformer(x, encoder_hidden_states=text)
            self.scheduler.step_index = i + 1
            callback_on_step_end(self, i, None, {"latents": torch.full((1,), float(i))})
        return "picture"


class _Adder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x: torch.Tensor, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        return self.block(x + encoder_hidden_states)


def test_the_conditional_branch_is_told_by_its_text_not_by_the_order_of_calls() -> None:
    conditional, unconditional = torch.full((1, 1, 1), 10.0), torch.full((1, 1, 1), 20.0)
    pipeline = UnusualOrder(conditional, unconditional)
    run = run_tapped(
        pipeline,
        {"block.0": pipeline.transformer.block},
        lambda name, out: out,
        conditional={"encoder_hidden_states": conditional},
        timesteps=[0.9, 0.5, 0.2],
        arguments={},
    )
    assert {t: x["block.0"].item() for t, x in run.tokens.items()} == {0.9: 10, 0.5: 11, 0.2: 12}
    assert run.sigmas == pytest.approx({0.9: 1.0, 0.5: 0.6, 0.2: 0.3})
    assert run.output == "picture"
    assert run.latents.item() == 2


def test_equal_prompt_and_negative_prompt_are_read_once(tiny: dict[str, Backbone]) -> None:
    sample = tiny["wan"].generate(PROMPT, negative_prompt=PROMPT, timesteps=TIMES)
    plain = tiny["wan"].generate(PROMPT, guidance=1.0, timesteps=TIMES)
    for name, m in sample.features.maps.items():
        torch.testing.assert_close(m, plain.features.maps[name], atol=1e-4, rtol=1e-4)
