"""render of files and scenes: which cameras, which size, and that it shows the scene."""

from pathlib import Path

import numpy as np
import pytest
import torch
from given_scenes import LENS, around, some_gaussians, write_project, write_scene
from video_files import in_order

from mmdiff_video.cli import main
from mmdiff_video.scenes import flight_paths, render_file
from mmdiff_video.scenes.folder import CAMERAS
from mmdiff_video.scenes.scene_input import SceneInput
from recon.cameras import project
from recon.gaussians import Gaussians
from recon.io.camera_files import Cameras
from recon.io.scene_files import load_scene, save_scene
from recon.io.transforms import Frame, write_transforms
from recon.rasterize import rasterize

SMALL = ("--size", "64x48", "--frames", "3")


def render(source: Path, out: Path, *words: object) -> list[np.ndarray]:
    command = ["render", str(source), "--out", str(out), *map(str, words)]
    assert main(command) == 0
    return in_order(out)


def drawn(scene: Gaussians, viewmat: torch.Tensor) -> np.ndarray:
    parts = (scene.means, scene.quats, scene.scales, scene.opacities, scene.colors)
    view = (viewmat.float()[None], LENS.K().float()[None], LENS.width, LENS.height)
    image = rasterize(*parts, *view, sh_degree=scene.sh_degree).image[0]
    return (image.clamp(0, 1) * 255).numpy()


def differ(picture: np.ndarray, other: np.ndarray) -> float:
    """Mean error in steps of 255; the video rounds colours and halves their resolution."""
    return float(np.abs(picture.astype(np.float32) - other).mean())


@pytest.mark.parametrize("ending", [".ply", ".spz", ".splat"])
@pytest.mark.parametrize("trajectory", [None, "orbit", "spiral"])
def test_a_bare_file_is_seen_from_before_it(tmp_path: Path, ending: str, trajectory):
    scene = some_gaussians(None if ending == ".splat" else 3)
    scene.means.add_(torch.tensor([100.0, -30, 7]))
    save_scene(tmp_path / f"a{ending}", scene)
    words = [] if trajectory is None else ["--trajectory", trajectory]
    frames = render(tmp_path / f"a{ending}", tmp_path / "v.mp4", *SMALL, *words)
    assert len(frames) == 3
    for frame in frames:
        assert frame.shape == (48, 64, 3)
        assert frame[12:36, 16:48].mean() > 40


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (50, 50), (200, 20)])
def test_most_of_a_bare_scene_is_in_view(size: tuple[int, int]):
    scene = some_gaussians(count=500)
    scene.means.add_(torch.tensor([100.0, -30, 7]))
    scene.means[:20] *= 50  # floaters
    path = flight_paths._before(scene, size)
    pixels, depths = project(scene.means.double(), path.viewmats, path.Ks)
    inside = ((pixels >= 0) & (pixels <= torch.tensor(size))).all(-1) & (depths > 0)
    share = float((inside[0] * scene.opacities).sum() / scene.opacities.sum())
    assert 0.85 < share < 0.97


def test_what_was_seen_from_one_side_is_seen_from_there():
    scene = some_gaussians(count=500)
    chance = torch.Generator().manual_seed(1)
    depths = torch.rand(500, 1, generator=chance) * 8 + 2
    slopes = (torch.rand(500, 2, generator=chance) - 0.5) * torch.tensor([1.15, 0.86])
    scene.means[:] = torch.cat([slopes * depths, depths], 1)  # before a camera at the origin
    path = flight_paths._before(scene, (64, 48))
    assert path.viewmats[0, :3, 3].abs().max() < 1


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_the_unit_of_length_does_not_matter(tmp_path: Path, monkeypatch, unit: float):
    scene = some_gaussians(2)
    save_scene(tmp_path / "a.ply", scene)
    scaled = Gaussians(
        scene.means * unit, scene.quats, scene.scales * unit, scene.opacities, scene.colors
    )
    save_scene(tmp_path / "b.ply", scaled)
    seen = []  # not by the videos: equal frames are not always encoded alike
    monkeypatch.setattr(render_file, "save_video", lambda frames, *_: seen.append([*frames]))
    for name in ("a", "b"):
        render_file.render_file(
            tmp_path / f"{name}.ply", out=tmp_path / "v.mp4", size=(64, 48), num_frames=3
        )
    wanted, found = seen
    assert max(differ(a, b) for a, b in zip(found, wanted, strict=True)) < 0.05


@pytest.mark.parametrize("count", [1, 2])
def test_scenes_of_a_single_point_are_seen(tmp_path: Path, count: int):
    scene = some_gaussians(None)[:1]
    scene.scales[:], scene.opacities[:], scene.colors[:] = 0.2, 0.9, 1.0
    save_scene(tmp_path / "a.ply", Gaussians.cat([scene] * count))
    (frame, *_) = render(tmp_path / "a.ply", tmp_path / "v.mp4", *SMALL)
    assert frame[20:28, 28:36].mean() > 80


def test_a_scene_flies_through_its_cameras(tmp_path: Path):
    folder = write_scene(tmp_path / "scene")
    frames = render(folder, tmp_path / "v.mp4", "--frames", 8)
    scene = load_scene(folder / "scene.ply")
    for frame, viewmat in zip(frames, around(), strict=True):
        assert frame.shape == (LENS.height, LENS.width, 3)
        assert differ(frame, drawn(scene, viewmat)) < 4
    assert differ(frames[0], drawn(scene, around()[4])) > 8  # the test can fail


def test_the_cameras_of_the_fit_go_before_those_of_the_capture(tmp_path: Path):
    folder = write_scene(tmp_path / "scene")
    frames = [Frame(f"capture/{k}.png", LENS, T) for k, T in enumerate(around(3, arc=60))]
    write_transforms(folder / CAMERAS, frames)
    (_, middle, _) = render(folder, tmp_path / "v.mp4", "--frames", 3)
    scene = load_scene(folder / "scene.ply")
    assert differ(middle, drawn(scene, around(3, arc=60)[1])) < 4


def test_many_cameras_are_thinned_for_a_calm_flight(tmp_path: Path):
    cameras = Cameras([LENS] * 100, around(100))
    given = SceneInput(tmp_path, some_gaussians(), cameras)
    path = flight_paths.by_name("interpolate", given, given.gaussians, (64, 48), 24)
    kept = torch.linspace(0, 99, 24).round().long()
    torch.testing.assert_close(path.viewmats, around(100)[kept])


def test_each_camera_of_a_path_gives_a_frame(tmp_path: Path):
    save_scene(tmp_path / "a.ply", some_gaussians(3))
    scene = load_scene(tmp_path / "a.ply")
    frames = [Frame(f"frames/{k}.png", LENS, T) for k, T in enumerate(around(5))]
    write_transforms(tmp_path / "path.json", frames)
    words = ["--trajectory", tmp_path / "path.json"]
    pictures = render(tmp_path / "a.ply", tmp_path / "v.mp4", *words)
    assert len(pictures) == 5
    for picture, viewmat in zip(pictures, around(5), strict=True):
        assert differ(picture, drawn(scene, viewmat)) < 4


@pytest.mark.parametrize("trajectory", ["interpolate", "orbit", "spiral", None])
def test_cameras_may_lie_elsewhere(tmp_path: Path, trajectory):
    save_scene(tmp_path / "a.spz", some_gaussians())
    project = write_project(tmp_path / "project", around())
    words = ["--cameras", project, "--depth", "--frames", 2]
    words += [] if trajectory is None else ["--trajectory", trajectory]
    frames = render(tmp_path / "a.spz", tmp_path / "v.mp4", *words)
    assert [frame.shape for frame in frames] == [(LENS.height, 2 * LENS.width, 3)] * 2
    assert all(frame[:, LENS.width :].std() > 10 for frame in frames)


@pytest.mark.parametrize("size", [(32, 24), (128, 96), (48, 48), (100, 30)])
def test_another_size_shows_the_middle_of_the_pictures(size: tuple[int, int]):
    cameras = Cameras([LENS], around(1))
    (K,) = flight_paths._intrinsics(cameras, size)
    scale = max(size[0] / LENS.width, size[1] / LENS.height)
    assert K[0, 0] == pytest.approx(LENS.fx * scale, rel=0.02)
    assert K[0, 0] == pytest.approx(float(K[1, 1]), rel=0.02)
    assert K[:2, 2].tolist() == pytest.approx([size[0] / 2, size[1] / 2], abs=0.6)


def test_lenses_change_along_the_path(tmp_path: Path):
    narrow = LENS.resized(LENS.width, LENS.height)
    wide = type(LENS)(width=64, height=48, fx=30, fy=30, cx=32, cy=24)
    cameras = Cameras([narrow, wide], around(2))
    given = SceneInput(tmp_path, some_gaussians(), cameras)
    path = flight_paths.by_name("interpolate", given, given.gaussians, (64, 48), 3)
    assert path.Ks[:, 0, 0].tolist() == [60, 45, 30]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture, tmp_path: Path):
    """Run a render that must fail with one sentence and no file, and return it."""

    def run(source: Path, *words: object) -> str:
        out = tmp_path / "fails.mp4"
        assert main(["render", str(source), "--out", str(out), *map(str, words)]) == 2
        assert not out.exists()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ")
        return line

    return run


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    save_scene(tmp_path / "bare.ply", some_gaussians())
    return tmp_path / "bare.ply"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--trajectory", "interpolate"], "has none: name them with --cameras, or choose orbit"),
        (["--trajectory", "zigzag"], "valid: interpolate, orbit, spiral, or a file of cameras"),
        (["--trajectory", "orbits"], "did you mean 'orbit'?"),
        (["--trajectory", "gone.json"], "'gone.json' is no file of cameras"),
        (["--cameras", "gone"], "'gone' holds no cameras"),
        (["--size", "100000x100000"], "H.264 takes 16384 a side"),
        (["--size", "0x20"], "width must be at least 1, not 0"),
        (["--size", "20x-1"], "height must be at least 1, not -1"),
        (["--size", "9000x48", "--depth"], "18000 x 48"),
        (["--frames", "0"], "frames must be at least 1"),
        (["--fps", "1001"], "fps must be at most 1000"),
        (["--scale", "2"], "--scale has no meaning here"),
        (["--scene", "x"], "takes --cameras, --size for it"),
        (["--ply", "x.ply"], "--ply has no meaning here"),
        (["--split", "train"], "--split has no meaning here"),
        (["--data-root", "x"], "--data-root has no meaning here"),
    ],
)
def test_what_will_not_do_is_a_sentence(bare: Path, fails, words, sentence):
    assert sentence in fails(bare, *words)


def test_pictures_beyond_the_memory_are_refused(bare: Path, fails, monkeypatch):
    monkeypatch.setattr("mmdiff_video.flights.machine_memory", lambda: 2**30)
    told = fails(bare, "--size", "4000x3000")
    assert "4000 x 3000 pixels takes 4 GiB of memory, and this machine has 1" in told


def test_a_path_sets_the_number_of_its_frames(bare: Path, fails, tmp_path: Path):
    write_transforms(tmp_path / "p.json", [Frame("0.png", LENS, around(1)[0])])
    told = fails(bare, "--trajectory", tmp_path / "p.json", "--frames", 3)
    assert "has 1 cameras, and each gives a frame: leave --frames away" in told


def test_folders_and_files_of_other_kinds(tmp_path: Path, fails):
    (tmp_path / "folder").mkdir()
    assert "neither a scene (scene.ply) nor a run" in fails(tmp_path / "folder")
    assert "is not a run folder" in fails(tmp_path / "none")
    assert "No such file" in fails(tmp_path / "none.ply")
    (tmp_path / "a.txt").write_text("hello")
    assert "known: .ply, .spz, .splat" in fails(tmp_path / "a.txt")
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\n")
    assert "header is cut off" in fails(tmp_path / "a.ply")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    assert "--size has no meaning here" in fails(tmp_path / "run", "--size", "64")
    save_scene(tmp_path / "run" / "scene.ply", some_gaussians())  # of a clip, by --ply
    assert "--cameras has no meaning here" in fails(tmp_path / "run", "--cameras", "x")


def test_a_camera_that_sees_nothing_still_orbits_something(tmp_path: Path, bare: Path):
    away = around(1)
    away[0, 2, 3] = -4  # the scene is behind it
    project = write_project(tmp_path / "p", away)
    words = ["--cameras", project, "--trajectory", "orbit", "--frames", 2, "--depth"]
    assert len(render(bare, tmp_path / "v.mp4", *words)) == 2
