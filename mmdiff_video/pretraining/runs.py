"""What VAE and DiT training share: the run folder, its stages, the weights to start from."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from torch import nn

from mmdiff_video.config import load_config, record_config
from mmdiff_video.errors import InputError
from mmdiff_video.files import remove_partials
from mmdiff_video.pretraining.config import DiTConfig, StageConfig, VAEConfig
from mmdiff_video.pretraining.corpus import CorpusConfig, holds_corpus, make_corpus
from mmdiff_video.pretraining.rooms import RoomSource
from mmdiff_video.pretraining.sealed import check_weights
from mmdiff_video.process import processes, this_device, writing_together
from mmdiff_video.training import Trainer, checkpoints, load_model
from mmdiff_video.training.checkpoint import load_state
from mmdiff_video.training.precision import settle_precision
from mmdiff_video.training.resuming import is_finished, refuse_fewer_steps

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"

Config = TypeVar("Config", VAEConfig, DiTConfig)
Stage = TypeVar("Stage", bound=StageConfig)
P = ParamSpec("P")


def alone_in_folder(
    train: Callable[Concatenate[Config, Path, P], None],
) -> Callable[Concatenate[Config, Path, P], None]:
    """Let a training hold its run folder from the beginning to the end."""

    @wraps(train)
    def held(config: Config, out: Path, *args: P.args, **kwargs: P.kwargs) -> None:
        with writing_together(out, "pretraining"):
            train(config, out, *args, **kwargs)

    return held


def open_run(config: Config, out: Path, *, resume: bool) -> Config:
    """Make the corpora and write down the config, with their folders and the precision chosen.

    A run that goes on keeps to the precision that it began in, and uses the corpora that it began
    with, where they still are: what it says of folders does not decide where others are drawn.

    Raises:
        InputError: there is a run in the folder already, or none to resume, or a stage has done
            more steps than it is to have.
    """
    file = out / CONFIG
    if resume and not file.is_file():
        raise InputError(f"nothing to resume in {out}: no run was started there")
    if any(out.glob("*/metrics.jsonl")) and not resume:
        raise InputError(
            f"{out} holds a run already; resume it (--resume), or choose another folder"
        )
    before = load_config(type(config), file) if resume else None
    for stage in config.stages:
        refuse_fewer_steps(
            out, _steps_done(out / stage.name), stage.steps, f"stages.{stage.name}.steps"
        )
    precision = settle_precision(
        config.train.precision, this_device(), before and before.train.precision
    )
    config = replace(config, train=replace(config.train, precision=precision))
    began = _corpora(before) if before else {}
    with processes().main_process_first():
        for stage, corpus in _corpora(config).items():
            if corpus.dir is None and stage in began and holds_corpus(began[stage].dir):
                corpus = replace(corpus, dir=began[stage].dir)
            folder = make_corpus(corpus, RoomSource()).resolve()
            config = _with_corpus(config, stage, replace(corpus, dir=str(folder)))
    if processes().is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        remove_partials(out)
        record_config(config, file)
    return config


def _steps_done(run: Path) -> int:
    found = checkpoints(run)
    return load_state(found[-1])["step"] if found else 0


def _corpora(config: Config) -> dict[str | None, CorpusConfig]:
    """Return the run's corpus, as None's, and those of the stages that have their own."""
    own = {stage.name: stage.corpus for stage in config.stages if stage.corpus}
    return {None: config.corpus, **own}


def _with_corpus(config: Config, name: str | None, corpus: CorpusConfig) -> Config:
    if name is None:
        return replace(config, corpus=corpus)
    stages: list[Any] = [
        replace(stage, corpus=corpus) if stage.name == name else stage for stage in config.stages
    ]
    return replace(config, stages=stages)


def train_stages(
    stages: Sequence[Stage],
    out: Path,
    model: nn.Module,
    trainer: Callable[[Stage, Path, bool], Trainer],
) -> bool:
    """Run the stages that are not done; the model ends with the averaged weights of the last.

    Args:
        stages: in order.
        out: the run folder, in which every stage has its own.
        model: as the first stage begins.
        trainer: makes the trainer of a stage: (stage, its folder, whether to resume it).

    Returns:
        False when a signal ended it early.
    """
    for stage in stages:
        run = out / stage.name
        done = _steps_done(run)
        if not is_finished(run, stage.steps):
            logger.info("stage '%s': %d of %d steps done", stage.name, done, stage.steps)
            begun = done > 0 or (run / "metrics.jsonl").is_file()
            if not trainer(stage, run, begun).fit().finished:
                return False
        load_model(run, model)
    return True


def starting_weights(init: Path, component: str) -> Path:
    """Find a component's folder in what ``--init`` names: a finished run or a backbone's folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    folder = init / component
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no '{component}' to start from in {init}; give a finished run of pretrain vae, a run"
            " of pretrain dit after pretrain export, or another diffusers folder"
        )
    check_weights(folder)
    return folder
