"""Surface normals: files, mirrors, loss, figures and pictures."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff_video.datasets.loading import load_images
from mmdiff_video.datasets.picture_files import PictureError, read_label
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.labelled import LabelledImage
from mmdiff_video.datasets.pictures.views import AugmentConfig, EvaluationViews, TrainingViews
from mmdiff_video.rooms import draw_room, make_room
from mmdiff_video.rooms.check import check_any
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.tasks.normals import (
    NormalLossConfig,
    Normals,
    angle_between,
    read_normals,
)

LABELS = Normals.labels


def vectors(*rows: tuple[float, float, float]) -> torch.Tensor:
    """A picture [3, 1, N] of these vectors, brought to length 1; 0 stays 0."""
    stacked = torch.tensor(rows, dtype=torch.float32).T[:, None]
    return torch.nn.functional.normalize(stacked, dim=0)


def tilted(*degrees: float) -> torch.Tensor:
    """Vectors [3, 1, N] that are turned away from the camera by so many degrees."""
    return vectors(*((math.sin(math.radians(d)), 0.0, -math.cos(math.radians(d))) for d in degrees))


EVERYWHERE = torch.ones(1, 1, dtype=torch.bool)


def test_a_file_of_16_bits_gives_back_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 5, 7)).astype(np.float32)
    values /= np.linalg.norm(values, axis=0)
    values[:, 2, 3] = 0
    path = tmp_path / "n.png"
    LABELS.write(path, values, None)
    stored = read_label(path)
    assert (stored.mode, stored.values.dtype) == ("RGB;16", np.uint16)
    assert stored.values[2, 3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(stored.values[0, 0], (values[:, 0, 0] + 1) / 2 * 65535, atol=0.51)
    np.testing.assert_allclose(read_normals(path), values, atol=5e-5)
    with Image.open(path) as picture:
        assert picture.size == (7, 5)


def test_8_bits_and_arrays_are_read_too(tmp_path):
    Image.fromarray(np.array([[[128, 128, 0], [0, 0, 0], [255, 128, 128]]], np.uint8)).save(
        tmp_path / "n.png"
    )
    found = read_normals(tmp_path / "n.png")
    np.testing.assert_allclose(found[:, 0].T, [[0, 0, -1], [0, 0, 0], [1, 0, 0]], atol=6e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[0], [1, 0, 1], atol=1e-6)
    np.save(tmp_path / "n.npy", np.array([[[0, 0, -1.01], [np.nan, 0, 0], [0, 0, 0]]]))
    found = read_normals(tmp_path / "n.npy")
    assert found.dtype == np.float32
    assert found[:, 0].T.tolist() == [[0, 0, -1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        (np.zeros((2, 2), np.uint8), "a.png", "is an 8-bit grey picture: normals are an RGB PNG"),
        (np.zeros((2, 2, 4), np.uint8), "a.png", "is an RGBA picture with transparent pixels"),
        (np.full((2, 2, 3), 128, np.uint8), "a.png", "holds a vector of length 0.01"),
        (
            np.zeros((3, 2, 2)),
            "a.npy",
            r"is an array of float64 \[3, 2, 2\]: normals are a float array",
        ),
        (np.zeros((2, 2, 3), np.int64), "a.npy", "is an array of int64"),
    ],
)
def test_files_that_hold_no_normals_have_a_sentence_each(tmp_path, values, name, message):
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    with pytest.raises(PictureError, match=message):
        read_normals(path)


def test_damaged_files_are_one_sentence(tmp_path):
    path = tmp_path / "n.png"
    LABELS.write(path, np.ones((3, 40, 40), np.float32) / math.sqrt(3), None)
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(PictureError, match="cut short or damaged"):
        read_normals(path)
    (tmp_path / "n.npy").write_bytes(b"nothing")
    with pytest.raises(PictureError, match="cut short or damaged"):
        read_normals(tmp_path / "n.npy")


def test_a_mirror_changes_the_side_that_a_surface_looks_to():
    target = vectors((1, 2, -3), (0, 0, 0), (0, 0, -1))
    mirrored = LABELS.mirrored(target)
    torch.testing.assert_close(mirrored, vectors((0, 0, -1), (0, 0, 0), (-1, 2, -3)))
    torch.testing.assert_close(LABELS.mirrored(mirrored), target)


def test_a_view_of_a_mirrored_room_has_the_normals_of_its_depth():
    """What augmentation gives must be the normals of the surface that the view shows."""
    frame = draw_room(make_room("train", 0), 1, 48, 48).frame(0)

    class Pair:
        place = "room"

        def read_image(self):
            return frame.rgb

        def read(self):
            return frame.rgb, LABELS.drawn(frame)

    augment = AugmentConfig(crop=(1.0, 1.0), mirror=1.0, jitter=0.0)
    views = TrainingViews([LabelledImage(key="a", pair=Pair())], LABELS, height=48, width=48,
                          void=255, augment=augment, seed=0, views=None)  # fmt: skip
    sample = views.sample(0, 0)
    mirrored = torch.from_numpy(frame.depth.copy()).flip(-1)
    room = draw_room(make_room("train", 0), 1, 48, 48)
    focal, middle = room.Ks[0, 0, 0], room.Ks[0, 0, 2]
    rows, columns = np.mgrid[0:48, 0:48] + 0.5
    rays = torch.from_numpy(
        np.stack([(columns - middle) / focal, (rows - middle) / focal, np.ones((48, 48))], -1)
    )
    points = rays * mirrored[..., None]
    planes = torch.linalg.cross(
        points[2:, 1:-1] - points[:-2, 1:-1], points[1:-1, 2:] - points[1:-1, :-2]
    )
    planes = torch.nn.functional.normalize(planes, dim=-1).movedim(-1, 0).float()
    shares = []
    for target in (sample.target, LABELS.drawn(frame)[..., ::-1].copy()):
        shown = torch.as_tensor(target)[None, :, 1:-1, 1:-1]
        degrees = torch.rad2deg(angle_between(shown, planes[None]))
        shares.append(float((degrees < 1).float().mean()))
    assert shares[0] > 0.4  # the others are curved, or at edges
    assert shares[1] < 0.1  # without the change of sign


def test_the_loss_by_hand_and_where_nothing_is_known():
    task = Normals(NormalLossConfig(cosine=2.0, angle=3.0))
    target = tilted(0, 0, 0)[None]
    output = 7 * tilted(60, 90, 180)[None]
    valid = torch.tensor([[[True, True, False]]])
    terms = task.loss(output, target, valid)
    assert terms["cosine"].item() == pytest.approx(2 * (0.5 + 1) / 2, abs=1e-5)
    assert terms["angle"].item() == pytest.approx(3 * math.radians(75), abs=1e-5)
    output.requires_grad_()
    for known in (valid, ~valid & False):
        loss = torch.stack(list(task.loss(output, 0 * target, known).values())).sum()
        loss.backward()
        assert output.grad is not None
        assert output.grad.isfinite().all()
    assert loss.item() == 0


def test_angles_are_exact_near_both_ends_and_have_finite_slopes():
    degrees = (0.0, 0.01, 1.0, 90.0, 179.0, 179.99, 180.0)
    found = tilted(*degrees)[None].double().requires_grad_()
    angles = torch.rad2deg(angle_between(found, tilted(*[0.0] * 7)[None].double()))[0, 0]
    np.testing.assert_allclose(angles.detach().numpy(), degrees, atol=2e-4)
    angles.sum().backward()
    assert found.grad is not None
    assert found.grad.isfinite().all()


def test_outputs_that_fit_the_truth_cost_least():
    torch.manual_seed(0)
    task = Normals(NormalLossConfig())
    target = torch.nn.functional.normalize(torch.randn(2, 3, 6, 6), dim=1)
    output = torch.randn(2, 3, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.1)
    valid = torch.ones(2, 6, 6, dtype=torch.bool)
    losses = []
    for _ in range(150):
        loss = torch.stack(list(task.loss(output, target, valid).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert torch.rad2deg(angle_between(task.decode(output.detach()), target)).mean() < 5


def test_figures_are_those_of_all_known_pixels_together():
    scores = Normals(NormalLossConfig()).scores()
    straight = tilted(0, 0, 0, 0)
    scores.add(tilted(5, 15, 25, 170), straight, torch.tensor([[True, True, True, False]]))
    scores.add(tilted(40), tilted(0), EVERYWHERE)
    figures = scores.compute()
    assert figures["mean"] == pytest.approx((5 + 15 + 25 + 40) / 4, abs=1e-3)
    assert figures["median"] == pytest.approx(15, abs=2e-3)  # the lower of the middle two, as torch
    assert [figures[f"<{d:g}"] for d in (11.25, 22.5, 30)] == [25, 50, 75]
    assert list(figures) == list(Normals.metrics)
    empty = Normals(NormalLossConfig()).scores().compute()
    assert all(math.isnan(value) for value in empty.values())


def test_the_constant_is_the_mean_direction_of_what_is_known():
    constant = Normals(NormalLossConfig()).constant()
    target = torch.cat([tilted(-30, 30), vectors((0, 1, 0))], -1)
    constant.add(target, torch.tensor([[True, True, False]]))
    predicted = constant.predict(2, 3)
    assert predicted.shape == (3, 2, 3)
    torch.testing.assert_close(predicted[:, 1, 2], torch.tensor([0.0, 0.0, -1.0]))


def test_pictures_of_normals():
    task = Normals(NormalLossConfig())
    colors = task.color(vectors((0, 0, -1), (1, 0, 0), (0, 0, 0)))[0].tolist()
    assert colors == [[128, 128, 0], [255, 128, 128], [0, 0, 0]]
    shown = task.error(tilted(0, 60, 0), tilted(0, 0, 0), torch.tensor([[True, True, False]]))[0]
    assert shown[0].sum() < 40
    assert shown[1].sum() > 400
    assert shown[2].tolist() == [96, 96, 96]


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    root = tmp_path_factory.mktemp("stills") / "rooms"
    return make_rooms(root, layout="folders", scenes=2, width=48, height=32, jobs=1)


def test_rooms_have_normals_and_the_check_tells_where_they_look(stills, tmp_path, capsys):
    card = load_image_card("rooms")
    (image,) = load_images(card, stills, "train", LABELS).images
    drawn = draw_room(make_room("train", 0), 1, 32, 48).normals[0]
    np.testing.assert_allclose(image.read()[1], np.moveaxis(drawn, -1, 0), atol=5e-5)
    views = EvaluationViews([image], LABELS, height=32, width=48, void=255, unit=16)
    assert views[0].valid.all()
    report = check_any("rooms", stills, tmp_path)
    (found,) = (r for r in report.splits if (r.split, r.task) == ("train", "normals"))
    assert found.labelled == 1
    assert sum(found.values.values()) == pytest.approx(1)
    assert found.values["up"] > 0.05  # floors
    assert found.values["away"] < 0.05
    assert "train (normals): left" in capsys.readouterr().out


def test_arrays_beside_pictures_are_found(stills, tmp_path):
    import shutil

    root = tmp_path / "rooms"
    shutil.copytree(stills, root)
    file = root / "train/normals/train00000.png"
    before = read_normals(file)
    np.save(file.with_suffix(".npy"), np.moveaxis(before, 0, -1))
    file.unlink()
    (image,) = load_images(load_image_card("folders"), root, "train", LABELS).images
    np.testing.assert_allclose(image.read()[1], before, atol=1e-6)
