"""A capture becomes a scene: what is fitted, held out, scored and left, and what a stop keeps."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_captures import HEIGHT, WIDTH, small_capture

from mmdiff_video.cli import main
from mmdiff_video.datasets.video_reader import count_frames
from mmdiff_video.errors import InputError
from mmdiff_video.scenes.capture.settings import CaptureSettings
from mmdiff_video.scenes.fitting import reconstruct as module
from mmdiff_video.scenes.fitting.job import STATE, Stopped, run_fit
from mmdiff_video.scenes.fitting.memory import require_memory
from mmdiff_video.scenes.fitting.reconstruct import reconstruct
from mmdiff_video.scenes.fitting.scoring import compare_view, nearest_camera
from mmdiff_video.scenes.fitting.settings import SceneSettings
from mmdiff_video.scenes.fitting.starting import make_start
from mmdiff_video.scenes.fitting.views import load_views
from recon.capture.capture import load_capture
from recon.fit import Fit, FitConfig
from recon.fit.align import align_cameras
from recon.fit.starts import Units
from recon.gaussians import Gaussians
from recon.io.ply import load_ply

UNCHECKED = CaptureSettings(check_poses=False, refine_poses=False)
QUICK = SceneSettings(steps=40, max_gaussians=150, hold_out=4, flight_frames=3)


@pytest.fixture(scope="module", autouse=True)
def _without_colmap():
    """Its points differ by chance from one capture to the next, and it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmdiff_video.scenes.capture.given_poses.is_installed", lambda: False)
        yield


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("capture")
    small_capture(folder)
    return folder


@pytest.fixture(scope="module")
def scene(capture: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "scene"
    reconstruct(capture, out, UNCHECKED, QUICK)
    return out


def fit_of(capture: Path, **settings) -> Fit:
    views = load_views(load_capture(capture), 640, 4)
    units = Units.of(views.all, torch.zeros(0, 3))
    inside = units.views(views.all[views.fitted])
    nothing = torch.zeros(0, 3)
    begin = make_start("chance", inside, nothing, nothing.byte(), 100, 0)
    return Fit(inside, begin.gaussians, FitConfig(max_gaussians=100, **settings))


def test_a_scene_holds_everything_that_a_report_names(scene: Path):
    report = json.loads((scene / "report.json").read_text())
    assert report["frames"] == report["registered"] == 9
    assert {Path(name).name for name in report["views"]} == {"000.png", "004.png", "008.png"}
    assert report["gaussians"] == load_ply(scene / "scene.ply").num == 150
    assert {"psnr", "ssim"} <= set(report["held_out"])
    assert set(report["nearest_frame"]) == set(report["held_out"])
    assert {"poses", "fit", "scoring"} <= set(report["seconds"])
    assert report["settings"]["steps_done"] == 40
    assert count_frames(scene / "flight.mp4") == 3
    assert Image.open(scene / "comparisons.png").size[0] > 3 * WIDTH
    assert list((scene / "previews").iterdir())
    assert not (scene / STATE).exists()


def test_the_scene_on_disk_renders_as_it_was_scored(scene: Path):
    report = json.loads((scene / "report.json").read_text())
    views = load_views(load_capture(scene), 640, 4)
    gaussians = load_ply(scene / "scene.ply")
    again = [
        compare_view(gaussians, views.all[[n]], views.all[views.fitted], views.sizes[n], 4.0, {})
        for n in views.held_out
    ]
    psnr = float(np.mean([one.scores["held_out"]["psnr"] for one in again]))
    assert psnr == pytest.approx(report["held_out"]["psnr"], abs=1e-4)


def test_a_finished_scene_is_not_written_over(capture: Path, scene: Path):
    before = (scene / "scene.ply").read_bytes()
    for settings, resume in ((QUICK, False), (replace(QUICK, steps=9), True)):
        with pytest.raises(InputError, match="holds a finished scene"):
            reconstruct(capture, scene, UNCHECKED, settings, resume=resume)
    report = json.loads((scene / "report.json").read_text())
    assert reconstruct(capture, scene, UNCHECKED, QUICK, resume=True) == report
    assert (scene / "scene.ply").read_bytes() == before


def test_nothing_to_resume_is_said(capture: Path, tmp_path: Path):
    with pytest.raises(InputError, match="nothing to resume"):
        reconstruct(capture, tmp_path / "new", UNCHECKED, QUICK, resume=True)


def test_a_stopped_scene_goes_on_to_the_same_gaussians(
    capture: Path, scene: Path, tmp_path: Path, monkeypatch
):
    out = tmp_path / "scene"
    step = Fit.run

    def interrupted(fit: Fit, *args, **kwargs):
        if fit.step == 17:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(fit, *args, **kwargs)

    monkeypatch.setattr(Fit, "run", interrupted)
    with pytest.raises(Stopped, match="SIGTERM after 18 steps"):
        reconstruct(capture, out, UNCHECKED, QUICK)
    monkeypatch.undo()
    with pytest.raises(InputError, match="--resume"):
        reconstruct(capture, out, UNCHECKED, QUICK)
    with pytest.raises(InputError, match="other settings"):
        reconstruct(capture, out, UNCHECKED, replace(QUICK, seed=1), resume=True)
    reconstruct(capture, out, UNCHECKED, QUICK, resume=True)
    assert (out / "scene.ply").read_bytes() == (scene / "scene.ply").read_bytes()


def test_a_damaged_state_is_refused(capture: Path, tmp_path: Path):
    fit = fit_of(capture, steps=3)
    run_fit(fit, tmp_path, seconds=None, resume=False, identity="a")
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"fit\.safetensors.*delete it"):
        run_fit(fit_of(capture, steps=3), tmp_path, seconds=None, resume=True, identity="a")


def test_a_fit_ends_when_its_time_is_over(capture: Path, tmp_path: Path):
    fit = fit_of(capture, steps=10**9)
    spent = run_fit(fit, tmp_path, seconds=0.5, resume=False, identity="a")
    assert 0.5 <= spent < 20
    assert fit.step >= 1
    # the rate fell as in a fit of so many steps
    assert fit.optimizer.param_groups[0]["lr"] < 0.2 * fit.config.rates.means


def test_cameras_that_are_refined_are_left_beside_the_scene(capture: Path, tmp_path: Path):
    out = tmp_path / "scene"
    report = reconstruct(capture, out, UNCHECKED, replace(QUICK, refine_poses=True))
    assert "moved to fit" in report["protocol"]
    given, refined = load_capture(out / "capture").viewmats(), load_capture(out).viewmats()
    assert 0 < float((given - refined).abs().max()) < 0.1


def test_no_picture_held_out_means_no_scores(capture: Path, tmp_path: Path):
    report = reconstruct(capture, tmp_path / "s", UNCHECKED, replace(QUICK, hold_out=0, steps=2))
    assert report["held_out"] == report["nearest_frame"] == {}
    assert "no scores" in report["protocol"]
    assert not (tmp_path / "s" / "comparisons.png").exists()


def test_pictures_of_several_sizes_are_fitted_together(tmp_path: Path):
    made = small_capture(tmp_path)
    small = made.photos[3]
    picture = Image.open(small.path).resize((WIDTH // 2, HEIGHT // 2))
    picture.save(small.path)
    photos = [*made.photos]
    photos[3] = replace(small, lens=small.lens.resized(WIDTH // 2, HEIGHT // 2))
    views = load_views(replace(made, photos=photos), 640, 8)
    assert views.sizes[3] == (WIDTH // 2, HEIGHT // 2)
    assert views.all.masks is not None
    assert views.all.masks[3].sum() == WIDTH * HEIGHT // 4
    assert views.all.masks[0].all()


def test_large_pictures_shrink_with_their_cameras(capture: Path):
    made = load_capture(capture)
    views = load_views(made, WIDTH // 2, 8)
    assert views.sizes[0] == (WIDTH // 2, HEIGHT // 2)
    torch.testing.assert_close(views.all.Ks[:, :2] * 2, load_views(made, 640, 8).all.Ks[:, :2])


def test_masks_hide_what_does_not_count(capture: Path):
    views = load_views(load_capture(capture), 640, 4)
    masks = torch.ones(views.all.images.shape[:3], dtype=torch.bool)
    masks[:, :, : WIDTH // 2] = False
    masked = replace(views.all, masks=masks)
    blank = Gaussians(
        torch.tensor([[0.0, 0, -9]]), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1, 3),
        torch.ones(1), torch.zeros(1, 3),
    )  # fmt: skip
    found = compare_view(blank, masked[[0]], masked[[1]], views.sizes[0], 4.0, {})
    shown = views.all.images[0, :, WIDTH // 2 :].double() / 255
    assert found.scores["held_out"]["psnr"] == pytest.approx(
        -10 * float(shown.square().mean().log10()), abs=1e-3
    )


def test_the_nearest_camera_is_near_and_looks_the_same_way(capture: Path):
    views = load_views(load_capture(capture), 640, 4)
    assert nearest_camera(views.all[[3]], views.all[[0, 1, 2, 4, 8]], 4.0) in (2, 3)
    turned = views.all.viewmats.clone()
    turned[2, :3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    fitted = replace(views.all, viewmats=turned)[[0, 2, 5]]
    assert nearest_camera(views.all[[2]], fitted, 4.0) == 0


def test_a_camera_that_was_moved_finds_back(capture: Path):
    fit = fit_of(capture, steps=150)
    fit.run(150)
    gaussians = fit.scene.gaussians()
    view = fit.views[[3]]
    wrong = view.viewmats.clone()
    wrong[0, 0, 3] += 0.02
    found = align_cameras(gaussians, replace(view, viewmats=wrong), engine="auto")
    assert abs(float(found[0, 0, 3] - view.viewmats[0, 0, 3])) < 0.01


def test_units_bring_views_back(capture: Path):
    views = load_views(load_capture(capture), 640, 4).all
    units = Units(torch.tensor([0.3, -2.0, 5.0]), 0.25)
    back = units.views_back(units.views(views))
    torch.testing.assert_close(back.viewmats, views.viewmats, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"steps": 0}, "--steps must be 1 or more"),
        ({"seconds": 0.0}, "--time must be above 0"),
        ({"seconds": float("nan")}, "--time must be above 0"),
        ({"sh_degree": 4}, "--sh-degree must be 0 to 3"),
        ({"max_gaussians": 0}, "--max-gaussians must be 1"),
        ({"hold_out": 1}, "every picture"),
        ({"picture_side": 5}, "--picture-side must be 32"),
        ({"flight_frames": -1}, "--flight-frames must be 0"),
    ],
)
def test_settings_out_of_their_range_are_refused(changed: dict, said: str):
    with pytest.raises(InputError, match=said):
        SceneSettings(**changed)


def test_memory_that_will_not_do_is_said_before_the_work():
    require_memory(50, 320, 240, 20_000)
    with pytest.raises(InputError, match=r"takes about .* TiB.*lower --picture-side"):
        require_memory(1000, 100_000, 100_000, 20_000)


def test_two_pictures_are_no_scene(tmp_path: Path, capsys):
    small_capture(tmp_path / "capture", 2)
    command = ["reconstruct", str(tmp_path / "capture"), "--out", str(tmp_path / "scene")]
    assert main([*command, "--no-check-poses", "--keep-poses"]) == 2
    assert "a scene needs 3 at least" in capsys.readouterr().err


def test_the_command_says_what_came_of_it(capture: Path, tmp_path: Path, capsys):
    out = tmp_path / "scene"
    command = ["reconstruct", str(capture), "--out", str(out), "--steps", "5", "--no-check-poses"]
    command += ["--keep-poses", "--max-gaussians", "50", "--flight-frames", "0"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "9 of 9 pictures have a camera" in said
    assert "copy of the nearest picture" in said
    assert "start: chance" in said
    assert not (out / "flight.mp4").exists()
    assert main(command) == 2


@pytest.mark.parametrize("arguments", [[], ["walk.mp4", "--example"]])
def test_one_source_is_named(tmp_path: Path, capsys, arguments: list[str]):
    assert main(["reconstruct", *arguments, "--out", str(tmp_path / "scene")]) == 2
    assert "--example" in capsys.readouterr().err
    assert not (tmp_path / "scene").exists()


def test_the_pictures_lie_where_the_cameras_say(scene: Path):
    assert not load_capture(scene).left_out
    assert module.layout.is_scene(scene)


def test_a_run_starts_a_scene_in_whatever_world_the_capture_has(capture: Path, monkeypatch):
    """Poses from pictures have no unit: the start goes with them by a similarity."""
    monkeypatch.chdir(Path(__file__).parents[1] / "fixtures" / "v0_1")
    made = load_capture(capture)
    points = torch.tensor([[0.0, 0.0, 4.0], [1.0, 0.0, 5.0], [0.0, -1.0, 3.0]])
    starts = []
    for scale in (1.0, 3.0):
        moved = [replace(p, viewmat=scaled(p.viewmat, scale)) for p in made.photos]
        views = load_views(replace(made, photos=moved), 640, 0).all
        units = Units.of(views, scale * points)
        inside = units.points(scale * points)
        begin = make_start("nvs", units.views(views), inside, inside.byte(), 60, 0)
        assert "of the run" in begin.words
        starts.append(units.back(begin.gaussians))
    small, large = starts
    assert small.num == 60
    torch.testing.assert_close(large.means, 3 * small.means, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(large.scales, 3 * small.scales, rtol=1e-3, atol=1e-5)


def scaled(viewmat: torch.Tensor, scale: float) -> torch.Tensor:
    moved = viewmat.clone()
    moved[:3, 3] *= scale
    return moved


def test_an_engine_that_does_not_work_here_is_refused_before_the_work(
    capture: Path, tmp_path: Path
):
    if torch.cuda.is_available():
        pytest.skip("gsplat may work here")
    with pytest.raises(InputError, match="needs an NVIDIA GPU"):
        reconstruct(capture, tmp_path / "s", UNCHECKED, replace(QUICK, engine="gsplat"))
    assert not (tmp_path / "s").exists()
