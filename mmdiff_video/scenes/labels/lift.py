"""Labels in a scene: what dense heads see in its pictures, fused on its Gaussians."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mmdiff_video.checks import check_least
from mmdiff_video.datasets.pictures.views import to_tensor
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.saved import find_saved, read_facts
from mmdiff_video.errors import InputError
from mmdiff_video.outputs import results_folder
from mmdiff_video.runs import open_run
from mmdiff_video.scenes.folder import CAPTURE, GAUSSIANS, LABEL_MAPS
from mmdiff_video.scenes.labels.agreement import Agreement
from mmdiff_video.scenes.labels.pictures import LabelPictures, check_maps_folder, write_results
from mmdiff_video.scenes.labels.report import LiftReport
from mmdiff_video.scenes.labels.seen import Seen
from mmdiff_video.scenes.labels.stored import HeadLabels, SceneLabels, load_gaussians
from mmdiff_video.scenes.labels.tasks import DEPTH, LIFTED, check_task
from mmdiff_video.scenes.labels.views import LiftView, ScenePictures, open_pictures
from mmdiff_video.skipped import Skipped, reasons
from recon.gaussians import Gaussians
from recon.lift import Lifter, render_channels

LONGEST_SIDE = 640
"""Pixels at which labels are fused, unless the user says otherwise: heads see no finer."""


def check_heads(heads: Sequence[Path | str]) -> list[Path]:
    """Find out, before any work, whether a scene can take these heads.

    Args:
        heads: runs of one dense task each, or what :meth:`DenseModel.from_pretrained` takes.

    Returns:
        Their folders.

    Raises:
        InputError: none at all, one that is no finished dense run, of a task that no scene takes,
            or two of one task.
    """
    if not heads:
        raise InputError("no head is named: give one or more runs of `mmdiff-video dense`")
    folders = [find_saved(head) for head in heads]
    of_task: dict[str, str] = {}
    for head, folder in zip(heads, folders, strict=True):
        read_facts(folder)
        task = open_run(folder, "dense").read_config(DenseConfig).task
        check_task(task, str(head))
        if task in of_task:
            raise InputError(
                f"'{of_task[task]}' and '{head}' are both heads for {task}, and a scene takes one"
                " of each task: label it with one of them"
            )
        of_task[task] = str(head)
    return folders


def lift_scene(
    scene: Path,
    heads: Sequence[Path | str],
    *,
    longest_side: int = LONGEST_SIDE,
    prompt: str | None = None,
    engine: str = "auto",
) -> LiftReport:
    """Label a scene with heads; what an earlier labelling wrote is replaced.

    Writes ``labels.safetensors`` (:mod:`mmdiff_video.scenes.labels.stored`), ``labelled.ply``, maps
    of some views in ``labels/`` and, last, ``lift.json``; each file whole or not at all. A head for
    depth alone writes no labels.

    Args:
        scene: folder of a scene; held against other processes meanwhile.
        heads: see :func:`check_heads`.
        longest_side: pixels of the longer side at which labels are fused, if pictures are larger.
        prompt: what the pictures show; None: each run's prompt.
        engine: of :func:`recon.rasterize`.

    Raises:
        InputError: as :func:`check_heads`; a scene without Gaussians, capture or usable pictures,
            pictures that see none of its Gaussians, or another process that writes there.
        OSError: the disk takes nothing more.
    """
    check_scene_and_heads(scene, heads, longest_side)
    with results_folder(scene, "lift", LABEL_MAPS):
        return _lift(scene, heads, longest_side, prompt, engine)


def check_scene_and_heads(scene: Path, heads: Sequence[Path | str], longest_side: int) -> None:
    """Refuse what :func:`lift_scene` refuses, as far as that is told without work."""
    check_least("longest_side", longest_side, 16)
    if not (scene / GAUSSIANS).is_file():
        load_gaussians(scene)  # says what is missing
    check_heads(heads)


def _lift(
    scene: Path,
    heads: Sequence[Path | str],
    longest_side: int,
    prompt: str | None,
    engine: str,
) -> LiftReport:
    folders = check_heads(heads)
    gaussians = load_gaussians(scene)
    pictures = open_pictures(scene, longest_side)
    check_maps_folder(scene / LABEL_MAPS)
    seconds: dict[str, float] = {}
    with _timed(seconds, "fusing"):
        found = _ask_all(heads, folders, gaussians, pictures, prompt, engine)
    with _timed(seconds, "comparing"):
        agreement, drawn = _compare(found, gaussians, pictures, engine)
    fused = {seen.task.name: seen for seen in found if seen.channels is not None}
    labels = _labels(fused)
    weight = None if labels is None else labels.weight
    names = set.union(*(set(seen.predictions) for seen in found))
    report = LiftReport(
        scene=str(scene),
        heads=agreement.reports(),
        gaussians=gaussians.num,
        unseen=0 if weight is None else int((weight == 0).sum()),
        views=len(names - pictures.held_out),
        held_out=len(names & pictures.held_out),
        longest_side=longest_side,
        skipped=pictures.skipped,
        notice=next((seen.notice for seen in found if seen.notice), ""),
        seconds=seconds,
    )
    with _timed(seconds, "writing"):
        write_results(scene, gaussians, labels, drawn, report.notice)
    report.write(scene)
    return report


def _ask_all(
    heads: Sequence[Path | str],
    folders: Sequence[Path],
    gaussians: Gaussians,
    pictures: ScenePictures,
    prompt: str | None,
    engine: str,
) -> list[Seen]:
    """One head after the other, so that backbones need not fit beside each other."""
    found: list[Seen] = []
    model: DenseModel | None = None
    for head, folder in zip(heads, folders, strict=True):
        model = _open(folder, model)
        found.append(_ask(str(head), model, gaussians, pictures, prompt, engine))
    return found


def _open(folder: Path, before: DenseModel | None) -> DenseModel:
    """Open a run, on the backbone of the one before if that is the same."""
    config = open_run(folder, "dense").read_config(DenseConfig).backbone
    same = before is not None and before.setup.config.backbone.name == config.name
    return DenseModel.from_pretrained(folder, before.setup.backbone if before and same else None)


@torch.no_grad()
def _ask(
    run: str,
    model: DenseModel,
    gaussians: Gaussians,
    pictures: ScenePictures,
    prompt: str | None,
    engine: str,
) -> Seen:
    """Let a head see every picture, and fuse what it sees in those that are not held out."""
    task = model.setup.task
    lifted = LIFTED.get(task.name)
    seen = Seen(run, task, model.classes, model.setup.notice)
    lifter: Lifter | None = None
    if lifted is not None:
        gaussians = gaussians.to(model.setup.backbone.device)
        lifter = Lifter(gaussians, lifted.width(model.classes), engine=engine)
    for view, pixels in _progress(pictures, f"{task.name} in pictures"):
        size = view.height, view.width
        output = model.outputs(to_tensor(pixels)[None], size, [prompt])[0]
        seen.predictions[view.name] = _compact(task.decode(output))
        if lifted is not None and lifter is not None and view.name not in pictures.held_out:
            maps = lifted.maps(output, view.viewmat)[None]
            mask = None if view.mask is None else view.mask[None].to(maps.device)
            lifter.add(maps, view.viewmat[None], view.K[None], masks=mask)
    if not set(seen.predictions) - pictures.held_out:
        skipped = [Skipped(*entry) for entry in pictures.skipped.items()]
        raise InputError(f"no picture of the scene can be used{reasons(skipped)}")
    if lifter is None:
        return seen
    channels, weight = (tensor.cpu() for tensor in lifter.lifted())
    if not weight.any():
        raise InputError(
            f"no picture in {CAPTURE}/ sees a Gaussian of {GAUSSIANS}: they are of two scenes"
        )
    return replace(seen, channels=channels.half(), weight=weight)


@torch.no_grad()
def _compare(
    found: Sequence[Seen], gaussians: Gaussians, pictures: ScenePictures, engine: str
) -> tuple[Agreement, LabelPictures]:
    """Render the labels into every picture, beside what the heads saw there."""
    agreement, drawn = Agreement(found), LabelPictures(found, [p.name for p in pictures.photos])
    fused = [seen.channels for seen in found if seen.channels is not None]
    weight = next((seen.weight for seen in found if seen.weight is not None), None)
    known = torch.ones(gaussians.num) if weight is None else (weight > 0).float()
    channels = torch.cat([*(part.float() for part in fused), known[:, None]], 1)
    for view, pixels in _progress(pictures, "labels into pictures"):
        rendered = render_channels(
            gaussians, channels, view.viewmat[None], view.K[None], view.width, view.height,
            engine=engine,
        )  # fmt: skip
        image, depth = rendered.image[0], rendered.depth[0]
        labelled = image[..., -1]
        valid = labelled > 0.5
        if view.mask is not None:
            valid &= view.mask
        means = image / labelled.clamp_min(1e-6)[..., None]
        held_out = view.name in pictures.held_out
        predictions = _predictions(found, means, view)
        for seen in found:
            name, own = seen.task.name, seen.predictions[view.name].float()
            if name == DEPTH:
                agreement.add_depth(name, depth, own[0], valid, held_out=held_out)
            else:
                agreement.add(name, predictions[name], own, valid, held_out=held_out)
        drawn.add(view, pixels, predictions, valid)
    return agreement, drawn


def _predictions(found: Sequence[Seen], means: Tensor, view: LiftView) -> dict[str, Tensor]:
    """Rendered means of the channels of all fused heads as predictions [C, H, W]."""
    predictions: dict[str, Tensor] = {}
    first = 0
    for seen in found:
        if seen.channels is not None:
            width = seen.channels.shape[1]
            part = means[..., first : first + width]
            predictions[seen.task.name] = LIFTED[seen.task.name].prediction(part, view.viewmat)
            first += width
    return predictions


def _labels(fused: dict[str, Seen]) -> SceneLabels | None:
    heads: dict[str, HeadLabels] = {}
    weight: Tensor | None = None
    for name, seen in fused.items():
        assert seen.channels is not None
        heads[name] = HeadLabels(seen.run, seen.channels, seen.classes)
        weight = seen.weight
    return None if weight is None else SceneLabels(heads, weight)


def _compact(prediction: Tensor) -> Tensor:
    """Hold a prediction of many pictures: class ids in a byte, else float16."""
    if prediction.is_floating_point():
        return prediction.cpu().half()
    return prediction.cpu().to(torch.uint8)


def _progress(pictures: ScenePictures, doing: str) -> Iterator[tuple[LiftView, NDArray[np.uint8]]]:
    count = len(pictures.photos)
    yield from tqdm(pictures, total=count, desc=doing, unit="picture", disable=None)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - began, 2)
