"""Sampling: tap a run of the stock diffusers pipeline without changing the sample."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mmdiff_video.backbones.adapter import Adapter
from mmdiff_video.backbones.concepts.reader import ConceptReader
from mmdiff_video.backbones.extract import Reading, read_latent
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.backbones.noise import keyed_noise
from mmdiff_video.backbones.taps import tapped
from mmdiff_video.backbones.types import Generated, TextEmbedding
from mmdiff_video.errors import InputError


def sample(
    adapter: Adapter,
    prompt: str,
    text: TextEmbedding,
    reading: Reading,
    *,
    size: tuple[int, int, int],
    arguments: Mapping[str, Any],
    guidance: float,
    seed: int,
) -> Generated:
    """Run the pipeline, reading at the steps nearest to each t.

    A t nearer to 0 than to the last step's sigma is read from the final latent, noised to t.

    Args:
        adapter: the loaded pipeline.
        prompt, text: the prompt, and its encoding.
        reading: what is read.
        size: (frames, height, width) in pixels.
        arguments: keyword arguments of the pipeline's call.
        guidance, seed: of the extra forward on the final latent.

    Raises:
        InputError: two t share a step.
    """
    concepts = None
    if reading.concepts:
        concepts = adapter.concept_reader(reading.concepts, reading.concept_indices, text)
    times = reading.timesteps
    grid = adapter.geometry.token_grid(*size)
    specs = {spec.name: spec for spec in reading.taps}
    run = run_tapped(
        adapter.pipeline,
        adapter.modules(reading.taps),
        lambda name, output: adapter.picture_tokens(specs[name], output, math.prod(grid)),
        conditional=adapter.text_arguments(text),
        timesteps=times,
        arguments=arguments,
        concepts=concepts,
    )
    latent = adapter.sampled_latent(run.latents, *size).float()
    read = {  # t -> tap -> [1, C, F, H, W]
        t: {name: tokens.transpose(1, 2).unflatten(2, grid) for name, tokens in taps.items()}
        for t, taps in run.tokens.items()
    }
    concept_maps = [maps.unflatten(2, grid) for maps in run.concepts.values()]
    if run.near_clean:
        x0 = latent.to(adapter.device)
        eps = keyed_noise([f"generate\0{prompt}"], seed, x0.shape[1:]).to(x0.device)
        near = replace(reading, timesteps=tuple(run.near_clean))
        extra = read_latent(adapter, x0, eps, text, near, guidance, chunk=None)
        for i, t in enumerate(run.near_clean):
            read[t] = {name: maps[:, i] for name, maps in extra.maps.items()}
        if extra.concepts is not None:  # the mean over these timesteps
            concept_maps += [extra.concepts] * len(run.near_clean)
    return Generated(
        video=adapter.family.sampled(run.output).float(),
        features=DiTFeatures(
            maps={s.name: torch.stack([read[t][s.name] for t in times], 1) for s in reading.taps},
            timesteps=times,
            sigmas=tuple(run.sigmas.get(t, t) for t in times),
            latent=latent,
            untrained=adapter.untrained,
            concepts=torch.stack(concept_maps).mean(dim=0) if concept_maps else None,
        ),
    )


@dataclass
class TappedRun:
    """What a tapped run of the pipeline leaves behind.

    Attributes:
        output: the pipeline's own output.
        latents: the final latents in the pipeline's own layout.
        sigmas: t -> the sigma of the step it was read at.
        tokens: t -> tap name -> picture tokens [1, L, C].
        concepts: t -> concept maps [1, K, L]; empty when none were asked for.
        near_clean: the t nearer to 0 than to the last step's sigma; the caller reads them from the
            final latent.
    """

    output: Any = None
    latents: Tensor = field(default_factory=lambda: torch.empty(0))
    sigmas: dict[float, float] = field(default_factory=dict)
    tokens: dict[float, dict[str, Tensor]] = field(default_factory=dict)
    concepts: dict[float, Tensor] = field(default_factory=dict)
    near_clean: list[float] = field(default_factory=list)


def assign_steps(
    timesteps: Sequence[float], sigmas: Sequence[float]
) -> tuple[dict[int, float], list[float]]:
    """Find the step of the schedule nearest to each timestep.

    Args:
        timesteps: the t asked for.
        sigmas: the schedule's sigmas at which the model is called, without the final 0.

    Returns:
        (step index -> t, and the t that are nearer to 0 than to the last sigma).

    Raises:
        InputError: two t share a step.
    """
    steps: dict[int, float] = {}
    near_clean: list[float] = []
    for t in timesteps:
        if t < min(sigmas) / 2:
            near_clean.append(t)
            continue
        step = min(range(len(sigmas)), key=lambda i: abs(sigmas[i] - t))
        if step in steps:
            raise InputError(
                f"timesteps {steps[step]:g} and {t:g} both fall on sigma {sigmas[step]:.3f}"
                f" of a schedule of {len(sigmas)} steps; use more steps or timesteps further apart"
            )
        steps[step] = t
    return steps, near_clean


def run_tapped(
    pipeline: Any,
    blocks: Mapping[str, nn.Module],
    picture_tokens: Callable[[str, Any], Tensor],
    *,
    conditional: Mapping[str, Tensor],
    timesteps: Sequence[float],
    arguments: Mapping[str, Any],
    concepts: ConceptReader | None = None,
) -> TappedRun:
    """Call the pipeline and read the blocks at the steps nearest to the timesteps.

    The schedule is read from ``pipeline.scheduler.sigmas`` when the first forward begins (a
    scheduler's integer timesteps are truncated), so a schedule that is too short is refused before
    any denoising. A batch row counts as conditional when it is given ``conditional`` as its text,
    whatever the order or number of the calls in a step, or of the rows in a call.

    Args:
        pipeline: a diffusers pipeline; its transformer takes its text by keyword.
        blocks: tap name -> module.
        picture_tokens: (tap name, the block's output) -> the picture's tokens.
        conditional: keyword of the transformer's call -> the conditional branch's text, [1, ...].
        timesteps: the t asked for.
        arguments: keyword arguments of the pipeline's call.
        concepts: reads concept maps at the same steps.

    Raises:
        InputError: two t share a step.
    """
    run = TappedRun()
    scheduler = pipeline.scheduler
    steps: dict[int, float] | None = None
    # t and batch row that are read from the forward under way
    current: tuple[float, int] | None = None

    def before_forward(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal steps, current
        if steps is None:
            sigmas = [float(s) for s in scheduler.sigmas[: len(scheduler.timesteps)]]
            steps, run.near_clean = assign_steps(timesteps, sigmas)
        current = None
        # step_index is None until the first step() of the run
        step = (
            scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
        ) or 0
        t = steps.get(step)
        # Equal prompts make both branches conditional; they give the same tokens: keep the first.
        if t is None or t in run.tokens:
            return
        row = _row_with(conditional, kwargs)
        if row is not None:
            current = t, row
            run.sigmas[t] = float(scheduler.sigmas[step])
            run.tokens[t] = {}

    def keep(name: str, output: Any) -> None:
        if current is not None:
            t, row = current
            run.tokens[t][name] = picture_tokens(name, output)[row : row + 1].clone()

    def keep_concepts(maps: Tensor) -> None:
        assert current is not None
        t, row = current
        run.concepts[t] = maps[row : row + 1]

    def after_step(pipe: Any, step: int, timestep: Any, values: dict[str, Tensor]) -> dict:
        run.latents = values["latents"]
        return {}

    handle = pipeline.transformer.register_forward_pre_hook(before_forward, with_kwargs=True)
    try:
        with ExitStack() as hooks:
            hooks.enter_context(tapped(blocks, keep))
            if concepts is not None:
                hooks.enter_context(concepts.attached(keep_concepts, lambda: current is not None))
            run.output = pipeline(**arguments, callback_on_step_end=after_step)
    finally:
        handle.remove()
    assert steps is not None
    assert set(run.tokens) == set(steps.values()), "the pipeline replaced the text it was given"
    return run


def _row_with(conditional: Mapping[str, Tensor], given: Mapping[str, Any]) -> int | None:
    """Find the row of a forward's texts [N, ...] in which all are ``conditional`` [1, ...]."""
    equal: Tensor | None = None
    for key, wanted in conditional.items():
        text = given[key]
        if text.shape[1:] != wanted.shape[1:]:
            return None
        same = (text == wanted.to(text)).flatten(1).all(dim=1)
        equal = same if equal is None else equal & same
    rows = [] if equal is None else equal.tolist()
    return rows.index(True) if True in rows else None
