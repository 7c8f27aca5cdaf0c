"""Labels of a scene: heads that know the truth of a room, and what comes out of fusing them."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from room_scene import FRAMES, HEIGHT, WIDTH, Oracle, draw, write_room_scene

from mmdiff_video.errors import InputError
from mmdiff_video.rooms import RoomClip
from mmdiff_video.scenes.labels import lift
from mmdiff_video.scenes.labels import pictures as label_pictures
from mmdiff_video.scenes.labels.lift import lift_scene
from mmdiff_video.scenes.labels.report import LiftReport
from mmdiff_video.scenes.labels.stored import label_colors, load_labels
from recon.capture.capture import load_capture, save_as_colmap, save_as_transforms
from recon.io.ply import load_ply


@pytest.fixture(scope="module")
def clip() -> RoomClip:
    return draw()


@pytest.fixture(scope="module")
def room(clip: RoomClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_room_scene(tmp_path_factory.mktemp("scenes") / "room", clip)


@pytest.fixture
def scene(room: Path, tmp_path: Path) -> Path:
    return shutil.copytree(room, tmp_path / "room")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch):
    """Label a scene with oracles in place of runs."""

    def ask(scene: Path, *oracles: Oracle, **settings) -> LiftReport:
        named = {o.setup.task.name: o for o in oracles}
        monkeypatch.setattr(lift, "check_heads", lambda heads: [Path(head) for head in heads])
        monkeypatch.setattr(lift, "_open", lambda folder, loaded: named[folder.name])
        return lift_scene(scene, list(named), **settings)

    return ask


def hold_out(scene: Path, names: Sequence[str]) -> None:
    """As the report of a scene has it."""
    scores = {"held_out": {"psnr": 30.0}, "nearest_frame": {"psnr": 20.0}}
    report = {"held_out": {"psnr": 30.0}, "views": dict.fromkeys(names, scores)}
    (scene / "report.json").write_text(json.dumps(report))


def test_true_classes_come_back_in_every_view(scene: Path, clip: RoomClip, ask):
    report = ask(scene, Oracle("seg", clip))
    figures = report.heads["seg"].input
    assert figures is not None
    assert figures["accuracy"] > 95
    labels = load_labels(scene)
    assert labels is not None
    assert report.unseen == int((labels.weight == 0).sum())
    # Gaussian i was put behind pixel i
    seen = labels.weight > 0.5
    truth = torch.from_numpy(clip.labels.reshape(-1)).long()
    found = labels.heads["seg"].channels.argmax(-1)
    assert float((found == truth)[seen].float().mean()) > 0.9


def test_views_vote_down_what_is_wrong_in_one(scene: Path, clip: RoomClip, ask):
    """A third of the pixels of each picture are wrong; the maps of the scene hardly."""
    ask(scene, Oracle("seg", clip, flips=0.33))
    names = sorted((scene / "labels" / "seg").iterdir())
    wrong = []
    for path in names:
        found = np.array(Image.open(path))
        wrong.append((found != clip.labels[int(path.name[:2])]).mean())
    assert np.mean(wrong) < 0.15


def test_normals_are_fused_in_the_world_and_come_back_in_the_camera(
    scene: Path, clip: RoomClip, ask
):
    figures = ask(scene, Oracle("normals", clip)).heads["normals"].input
    assert figures is not None
    assert figures["median"] < 5
    labels = load_labels(scene)
    assert labels is not None
    world = np.einsum("fij,fhwi->fhwj", clip.viewmats[:, :3, :3], clip.normals).reshape(-1, 3)
    found = torch.nn.functional.normalize(labels.heads["normals"].channels.float(), dim=-1)
    cosine = (found * torch.from_numpy(world)).sum(-1)[labels.weight > 0.5]
    assert float(cosine.median()) > 0.99


def test_saliency_agrees_with_its_own_mask(scene: Path, clip: RoomClip, ask):
    figures = ask(scene, Oracle("saliency", clip)).heads["saliency"].input
    assert figures is not None
    assert figures["MAE"] < 0.08
    assert figures["maxF"] > 0.8


def test_depth_is_compared_up_to_the_unit_of_the_scene_and_not_fused(
    scene: Path, clip: RoomClip, ask
):
    shutil.rmtree(scene)
    viewmats = clip.viewmats.copy()
    viewmats[:, :3, 3] /= 2
    # the same room, in units of 2 m
    write_room_scene(scene, replace(clip, viewmats=viewmats, depth=clip.depth / 2))
    report = ask(scene, Oracle("depth", clip)).heads["depth"]
    assert not report.fused
    assert report.metres_per_unit == pytest.approx(2, rel=0.05)
    assert report.input is not None
    assert report.input["AbsRel"] < 0.05
    assert report.input["delta1"] > 0.95
    assert report.held_out is None
    assert not (scene / "labels.safetensors").exists()
    assert not (scene / "labelled.ply").exists()
    assert (scene / "labels" / "sheet.png").exists()


def test_several_heads_at_once_are_what_each_is_alone(scene: Path, clip: RoomClip, ask):
    oracles = [Oracle(task, clip) for task in ("normals", "depth", "seg", "saliency")]
    together = ask(scene, *oracles)
    all_labels = load_labels(scene)
    assert all_labels is not None
    assert list(all_labels.heads) == ["normals", "seg", "saliency"]
    for oracle in oracles:
        name = oracle.setup.task.name
        alone = ask(scene, oracle)
        assert alone.heads[name].input == pytest.approx(together.heads[name].input, nan_ok=True)
        labels = load_labels(scene)
        if labels is not None:
            torch.testing.assert_close(labels.heads[name].channels, all_labels.heads[name].channels)


def test_held_out_pictures_are_scored_and_not_fused(scene: Path, clip: RoomClip, ask):
    whole = ask(scene, Oracle("seg", clip))
    assert (whole.views, whole.held_out) == (FRAMES, 0)
    assert whole.heads["seg"].held_out is None
    all_of_them = load_labels(scene)
    hold_out(scene, ["01.png", "04.png", "gone.png"])
    part = ask(scene, Oracle("seg", clip))
    assert (part.views, part.held_out) == (FRAMES - 2, 2)
    figures = part.heads["seg"].held_out
    assert figures is not None
    assert figures["accuracy"] > 80
    fewer = load_labels(scene)
    assert all_of_them is not None
    assert fewer is not None
    assert float(fewer.weight.sum()) < 0.8 * float(all_of_them.weight.sum())


def test_what_is_written_can_be_read_by_others(scene: Path, clip: RoomClip, ask):
    report = ask(scene, Oracle("seg", clip))
    assert sorted(p.name for p in scene.iterdir() if not p.name.startswith(".lock")) == [
        "capture",
        "labelled.ply",
        "labels",
        "labels.safetensors",
        "lift.json",
        "scene.ply",
    ]
    painted, colors = load_ply(scene / "labelled.ply"), label_colors(scene)
    assert colors is not None
    assert painted.sh_degree is None
    torch.testing.assert_close(painted.colors, colors.float() / 255, rtol=0, atol=1e-4)
    torch.testing.assert_close(painted.means, load_ply(scene / "scene.ply").means)
    told = json.loads((scene / "lift.json").read_text())
    assert told["gaussians"] == painted.num == FRAMES * HEIGHT * WIDTH
    assert sum(told["heads"]["seg"]["shares"].values()) == pytest.approx(1)
    assert told["heads"]["seg"]["input"]["IoU vase"] is None
    with Image.open(scene / "labels" / "sheet.png") as sheet:
        assert sheet.width > 3 * 256
    words = str(report)
    assert "agreement" in words
    assert "mIoU" in words
    assert "IoU wall" not in words


def test_a_picture_that_cannot_be_read_is_skipped_with_its_reason(scene: Path, clip: RoomClip, ask):
    (scene / "capture/images/02.png").write_bytes(b"no picture")
    (scene / "capture/images/03.png").unlink()
    Image.new("RGB", (9, 60)).save(scene / "capture/images/04.png")
    report = ask(scene, Oracle("seg", clip))
    assert report.views == FRAMES - 3
    assert sorted(report.skipped) == ["02.png", "03.png", "04.png"]
    assert "9x60" in report.skipped["04.png"]
    assert "skipped 02.png" in str(report)


def test_cameras_that_the_fit_moved_are_the_ones_that_count(scene: Path, clip: RoomClip, ask):
    """The capture's own are far off; the scene says where the pictures were taken."""
    capture = load_capture(scene / "capture")
    save_as_transforms(replace(capture, photos=capture.photos[:-1]), scene)
    for photo in capture.photos:
        photo.viewmat[:3, 3] += 3
    save_as_colmap(capture, scene / "capture")
    report = ask(scene, Oracle("seg", clip))
    figures = report.heads["seg"].input
    assert figures is not None
    assert figures["accuracy"] > 95
    assert "no camera of it" in report.skipped["05.png"]


@pytest.mark.parametrize("name", ["a b/c.png", "Küche\n1.png", "x" * 150 + ".png"])
def test_pictures_may_have_any_name(scene: Path, clip: RoomClip, ask, name: str):
    capture = load_capture(scene / "capture")
    first = capture.photos[0]
    path = scene / "capture/images" / name
    path.parent.mkdir(exist_ok=True)
    first.path.rename(path)
    photos = [replace(first, name=name, path=path), *capture.photos[1:]]
    save_as_colmap(replace(capture, photos=photos), scene / "capture")
    report = ask(scene, Oracle("seg", clip))
    assert report.views + len(report.skipped) == FRAMES
    written = list((scene / "labels" / "seg").iterdir())
    assert all(file.suffix == ".png" for file in written)


def test_a_mask_hides_what_does_not_belong_to_the_scene(scene: Path, clip: RoomClip, ask):
    masks = scene / "capture" / "masks"
    masks.mkdir()
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[:, : WIDTH // 2] = 255
    whole = ask(scene, Oracle("seg", clip))
    everything = load_labels(scene)
    for number in range(FRAMES):
        Image.fromarray(half).save(masks / f"{number:02d}.png.png")
    masked = ask(scene, Oracle("seg", clip))
    left = load_labels(scene)
    assert everything is not None
    assert left is not None
    assert float(left.weight.sum()) == pytest.approx(0.5 * float(everything.weight.sum()), rel=0.1)
    assert masked.unseen > whole.unseen


def test_labels_are_fused_at_the_size_that_is_asked_for(scene: Path, clip: RoomClip, ask):
    ask(scene, Oracle("seg", clip), longest_side=24)
    with Image.open(scene / "labels" / "seg" / "00.png.png") as picture:
        assert picture.size == (24, 16)


def test_gaussians_that_are_not_finite_have_no_label(scene: Path, clip: RoomClip, ask):
    file = scene / "scene.ply"
    content = bytearray(file.read_bytes())
    content[-68:-64] = np.float32("nan").tobytes()  # x of the last one: 17 numbers a Gaussian
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"1 of .* NaN"):
        report = ask(scene, Oracle("seg", clip))
    with pytest.warns(UserWarning, match=r"1 of .* NaN"):
        labels = load_labels(scene)
    assert labels is not None
    assert labels.weight[-1] == 0
    assert report.unseen >= 1
    assert load_ply(scene / "labelled.ply").num == report.gaussians - 1


def test_a_second_labelling_takes_the_place_of_the_first(scene: Path, clip: RoomClip, ask):
    ask(scene, Oracle("normals", clip))
    ask(scene, Oracle("seg", clip))
    labels = load_labels(scene)
    assert labels is not None
    assert list(labels.heads) == ["seg"]
    assert [p.name for p in sorted((scene / "labels").iterdir())] == ["seg", "sheet.png"]
    assert not list(scene.glob(".partial-*"))


def broken_scenes() -> dict:
    """What is done to a scene -> what the refusal says."""

    def far_away(scene: Path) -> None:
        from recon.io.ply import save_ply

        gaussians = load_ply(scene / "scene.ply")
        gaussians.means.add_(1e6)
        save_ply(scene / "scene.ply", gaussians)

    def strange_folder(scene: Path) -> None:
        (scene / "labels").mkdir()
        (scene / "labels" / "mine.txt").write_text("mine")

    def no_pictures(scene: Path) -> None:
        for path in (scene / "capture/images").iterdir():
            path.write_bytes(b"")

    return {
        "no Gaussians": (lambda s: (s / "scene.ply").unlink(), r"no scene: it has no scene\.ply"),
        "a torn PLY": (lambda s: (s / "scene.ply").write_bytes(b"ply"), "not a PLY file"),
        "no capture": (lambda s: shutil.rmtree(s / "capture"), "has no capture/"),
        "an empty capture": (
            lambda s: (shutil.rmtree(s / "capture"), (s / "capture").mkdir()),
            "is no capture",
        ),
        "no cameras": (lambda s: shutil.rmtree(s / "capture/sparse"), "is no capture"),
        "no picture": (no_pictures, "no picture of the scene can be used"),
        "another scene": (far_away, "sees a Gaussian"),
        "a damaged report": (lambda s: (s / "report.json").write_text("{"), "not readable JSON"),
        "views by number": (lambda s: (s / "report.json").write_text('{"views": [1]}'), "by name"),
        "a report in a list": (lambda s: (s / "report.json").write_text("[]"), "by name"),
        "torn cameras": (lambda s: (s / "transforms.json").write_text("{"), "transforms.json"),
        "maps of others": (strange_folder, "no earlier maps"),
        "a file for the maps": (lambda s: (s / "labels").write_text(""), "labels"),
        "a link for the maps": (lambda s: (s / "labels").symlink_to(s), "is a link"),
    }


@pytest.mark.parametrize("case", broken_scenes())
def test_a_scene_that_cannot_be_labelled_is_refused_in_a_sentence_and_left_alone(
    scene: Path, clip: RoomClip, ask, case: str
):
    damage, said = broken_scenes()[case]
    damage(scene)
    before = sorted(str(p) for p in scene.rglob("*") if ".lock" not in p.name)
    with pytest.raises(InputError, match=said) as refused:
        ask(scene, Oracle("seg", clip))
    assert "\n" not in str(refused.value)
    assert sorted(str(p) for p in scene.rglob("*") if ".lock" not in p.name) == before


def test_a_report_is_there_only_when_all_is_written(
    scene: Path, clip: RoomClip, ask, monkeypatch: pytest.MonkeyPatch
):
    ask(scene, Oracle("seg", clip))

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(label_pictures, "save_ply", fails)
    with pytest.raises(OSError, match="No space"):
        ask(scene, Oracle("seg", clip, flips=0.5))
    assert not (scene / "lift.json").exists()
    assert not list(scene.glob(".partial-*"))


def test_an_older_labelling_stays_when_a_new_one_fails(scene: Path, clip: RoomClip, ask):
    ask(scene, Oracle("seg", clip))
    before = (scene / "labels.safetensors").read_bytes()
    shutil.rmtree(scene / "capture/sparse")
    with pytest.raises(InputError):
        ask(scene, Oracle("normals", clip))
    assert (scene / "labels.safetensors").read_bytes() == before
    assert label_colors(scene) is not None
