"""``mmdiff-video reconstruct``: a video, or a capture, becomes a scene."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mmdiff_video.errors import InputError
from mmdiff_video.files import read_json, write_json
from mmdiff_video.nvs.objective import perceptual_metrics
from mmdiff_video.outputs import results_folder
from mmdiff_video.scenes import folder as layout
from mmdiff_video.scenes.capture.make import Made, make_capture
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.fitting.device import device_of
from mmdiff_video.scenes.fitting.job import STATE, run_fit
from mmdiff_video.scenes.fitting.memory import require_memory
from mmdiff_video.scenes.fitting.pictures import draw_comparisons, draw_flight, draw_preview
from mmdiff_video.scenes.fitting.report import make_report
from mmdiff_video.scenes.fitting.scoring import Compared, compare_view, render_views
from mmdiff_video.scenes.fitting.settings import SceneSettings
from mmdiff_video.scenes.fitting.starting import make_start
from mmdiff_video.scenes.fitting.views import SceneViews, load_views
from recon.capture.capture import Capture, save_as_transforms
from recon.fit import Fit, FitConfig, FitViews
from recon.fit.align import align_cameras
from recon.fit.starts import Units
from recon.gaussians import Gaussians
from recon.io.ply import canonical, save_ply


def reconstruct(
    source: Path,
    out: Path,
    capture_settings: CaptureSettings,
    settings: SceneSettings,
    *,
    resume: bool = False,
    progress: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """Make a scene: capture, start, fit, scores, pictures.

    ``out`` receives ``capture/`` (see :func:`mmdiff_video.scenes.capture.make.make_capture`),
    ``scene.ply``, ``transforms.json`` (the cameras as the fit left them), ``flight.mp4``,
    ``comparisons.png``, ``previews/`` and, last, ``report.json``.

    Args:
        source: a video, photographs, or a capture of any kind that ``make_capture`` reads.
        out: folder for the scene.
        capture_settings: how pictures get their cameras.
        settings: how the scene is fitted.
        resume: go on with what a stopped command left in ``out``; what is finished is left alone.
        progress: makes a context whose value is told the stages of the capture.

    Returns:
        The content of ``report.json``.

    Raises:
        InputError: a source that cannot be used, an ``out`` that is in use or holds a scene
            already, too few pictures, or too little memory.
        Stopped: SIGINT or SIGTERM came during the fit; ``resume`` goes on from there.
    """
    device_of(settings.engine)  # refuses what does not work, before the work
    if resume and (finished := _finished(out, settings)):
        return finished
    _require_begun(out, resume)
    clock = _Clock()
    with results_folder(out, "reconstruct", layout.PREVIEWS):
        made = _capture(source, out / layout.CAPTURE, capture_settings, progress)
        clock.add_all({"poses": sum(made.report.seconds.values())})
        with clock("loading"):
            views = load_views(made.capture, settings.picture_side, settings.hold_out)
            count = settings.gaussians_for(views.all.width, views.all.height)
            require_memory(len(views.names), views.all.width, views.all.height, count)
        with clock("start"):
            job = _prepare(made.capture, views, settings, count)
        clock.add_all({"fit": _fit(job, out, settings, made, resume)})
        with clock("scoring"):
            scene, compared, no_lpips = _score(job, settings)
        with clock("pictures"):
            save_ply(out / layout.GAUSSIANS, scene)
            _save_cameras(job, made.capture, out)
            if compared:
                draw_comparisons(compared, job.held_names, out / layout.COMPARISONS)
            if settings.flight_frames:
                size = views.sizes[len(views.sizes) // 2]
                file = out / layout.FLIGHT
                draw_flight(scene, job.cameras, size, settings.flight_frames, file, settings.engine)
        report = make_report(
            made.report,
            settings,
            compared,
            job.held_names,
            start=job.words,
            gaussians=scene.num,
            steps=job.fit.step,
            size=(views.all.width, views.all.height),
            aligned=settings.refine_poses and bool(compared),
            seconds=clock.seconds,
            no_lpips=no_lpips,
        )
        write_json(out / layout.REPORT, report)
        (out / STATE).unlink(missing_ok=True)
    return report


@dataclass(eq=False)
class _Job:
    """A fit with what belongs to it.

    Attributes:
        views: pictures of the capture.
        units: of the fit.
        fit: the optimiser.
        words: what the start is.
        cameras: all pictures with their cameras as they are known now, in the capture's world.
    """

    views: SceneViews
    units: Units
    fit: Fit
    words: str
    cameras: FitViews

    @property
    def held_names(self) -> list[str]:
        return [self.views.names[i] for i in self.views.held_out]

    def scene(self) -> Gaussians:
        """The scene in the capture's world, as its file will have it."""
        return canonical(self.units.back(self.fit.scene.gaussians().to("cpu")))


def _capture(source: Path, out: Path, settings: CaptureSettings, progress: Any) -> Made:
    if progress is None:
        return make_capture(source, out, settings)
    with progress() as told:
        return make_capture(source, out, settings, progress=told)


def _prepare(capture: Capture, views: SceneViews, settings: SceneSettings, count: int) -> _Job:
    points = capture.points.float()
    units = Units.of(views.all, points)
    fitted = units.views(views.all[views.fitted])
    begin = make_start(
        settings.init, fitted, units.points(points), capture.rgb, count, settings.seed
    )
    config = FitConfig(
        steps=settings.steps,
        max_gaussians=count,
        sh_degree=settings.sh_degree,
        refine_poses=settings.refine_poses,
        exposures=settings.exposures,
        engine=settings.engine,
        seed=settings.seed,
    )
    device = device_of(settings.engine)
    fit = Fit(fitted.to(device), begin.gaussians.to(device), config)
    return _Job(views, units, fit, begin.words, views.all)


def _fit(job: _Job, out: Path, settings: SceneSettings, made: Made, resume: bool) -> float:
    facts = [asdict(settings), made.report.made_from]
    identity = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()

    def preview(step: int) -> None:
        if not job.views.held_out:
            return
        number = job.views.held_out[len(job.views.held_out) // 2]
        width, height = job.views.sizes[number]
        view = job.views.all[[number]]
        full = (view.width, view.height)
        shown = render_views(job.scene(), view.viewmats, view.Ks, full, settings.engine)
        truth = view.images[0, :height, :width].float() / 255
        file = out / layout.PREVIEWS / f"step-{step:06d}.png"
        title = f"{job.views.names[number]}, step {step}"
        draw_preview(truth, shown[0, :height, :width], title, file)

    return run_fit(
        job.fit,
        out,
        seconds=settings.seconds,
        resume=resume,
        identity=identity,
        preview=preview,
    )


def _score(job: _Job, settings: SceneSettings) -> tuple[Gaussians, list[Compared], str]:
    scene = job.scene()
    held, fitted = job.views.held_out, job.views.fitted
    if settings.refine_poses:
        job.cameras = _with_fitted_cameras(job, settings.engine)
    if not held:
        return scene, [], ""
    perceptual, no_lpips = perceptual_metrics(torch.device("cpu"), *_smallest(job.views))
    compared = [
        compare_view(
            scene,
            job.cameras[[number]],
            job.cameras[fitted],
            job.views.sizes[number],
            1 / job.units.scale,
            perceptual,
            settings.engine,
        )
        for number in tqdm(held, desc="scoring", unit="view", disable=None, leave=False)
    ]
    return scene, compared, no_lpips


def _with_fitted_cameras(job: _Job, engine: str) -> FitViews:
    """All pictures with refined cameras: those of the fit, and held-out ones moved to match."""
    inside = job.units.views(job.views.all)
    viewmats = inside.viewmats.clone()
    viewmats[job.views.fitted] = job.fit.viewmats().cpu()
    if job.views.held_out:
        gaussians = job.fit.scene.gaussians()
        held = inside[job.views.held_out].to(gaussians.means.device)
        viewmats[job.views.held_out] = align_cameras(gaussians, held, engine=engine).cpu()
    return job.units.views_back(replace(inside, viewmats=viewmats))


def _smallest(views: SceneViews) -> tuple[int, int]:
    return min(h for _, h in views.sizes), min(w for w, _ in views.sizes)


def _save_cameras(job: _Job, capture: Capture, out: Path) -> None:
    viewmats: Sequence[Tensor] = list(job.cameras.viewmats.double())
    photos = [
        replace(photo, viewmat=viewmat)
        for photo, viewmat in zip(capture.photos, viewmats, strict=True)
    ]
    save_as_transforms(replace(capture, photos=photos), out)


def _finished(out: Path, settings: SceneSettings) -> dict[str, Any] | None:
    """The report of a scene that is finished, with these settings."""
    if not (out / layout.REPORT).exists():
        return None
    report = read_json(out / layout.REPORT)
    known = report.get("settings", {}) if isinstance(report, dict) else {}
    same = all(known.get(name) == value for name, value in asdict(settings).items())
    return report if same else None


def _require_begun(out: Path, resume: bool) -> None:
    done = (out / layout.REPORT).exists()
    if done:
        raise InputError(
            f"'{out}' holds a finished scene: choose another folder, or delete it to make it anew"
        )
    begun = (out / STATE).exists() or (out / layout.CAPTURE).exists()
    if begun and not resume:
        raise InputError(
            f"'{out}' holds a scene that was begun: go on with it (--resume), or choose another"
            " folder"
        )
    if resume and not begun:
        raise InputError(f"nothing to resume in '{out}': no scene was begun there")


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = monotonic()
        yield
        self.seconds[stage] = monotonic() - began

    def add_all(self, seconds: dict[str, float]) -> None:
        """Add stages that were timed elsewhere."""
        self.seconds |= seconds
