"""A capture: pictures of one scene with their cameras, whatever it was read from."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from recon.io.colmap import find_model, read_model, write_model
from recon.io.colmap_model import ColmapCamera, ColmapImage, Model, Points
from recon.io.format_error import FormatError
from recon.io.ply_table import read_vertices
from recon.io.transforms import Frame, read_transforms, write_transforms
from recon.lenses import Lens
from recon.rotations import quats_from_matrices

TRANSFORMS = "transforms.json"

_PICTURE_FOLDERS = ("images", "images_2", "images_4", "images_8", "input", ".")
"""Where pictures of a COLMAP project may lie; smaller copies serve where the others are gone."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture with its camera.

    Attributes:
        name: of the picture in its capture.
        path: of its file.
        lens: of the camera, for pictures of the size that it says.
        viewmat: [4, 4] float64, world-to-camera, OpenCV axes.
        mask: file of what belongs to the scene (white), if there is one.
    """

    name: str
    path: Path
    lens: Lens
    viewmat: Tensor
    mask: Path | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """Pictures of one scene with their cameras.

    Attributes:
        photos: in the order of their names, or of the file that lists them.
        points: [N, 3] float64, points of the scene; none where they are not known.
        rgb: [N, 3] uint8, their colours.
        left_out: picture -> why it is not among ``photos``.
        source: what it was read from, in words.
    """

    photos: list[Photo]
    points: Tensor
    rgb: Tensor
    left_out: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def viewmats(self) -> Tensor:
        """Of all photos, [V, 4, 4] float64."""
        return torch.stack([photo.viewmat for photo in self.photos])


def load_capture(path: Path) -> Capture:
    """Read a COLMAP project, or a ``transforms.json`` (the file, or its folder).

    Raises:
        FormatError: neither is there, one that cannot be read, or no picture of it is there.
    """
    if path.is_file() and path.suffix.lower() == ".json":
        capture = _from_transforms(path)
    elif (model := find_model(path)) is not None:
        capture = _from_colmap(path, model)
    elif (path / TRANSFORMS).is_file():
        capture = _from_transforms(path / TRANSFORMS)
    else:
        raise FormatError(
            f"'{path}' is no capture: neither a COLMAP project (sparse/0/cameras.bin or .txt) nor a"
            f" folder with a {TRANSFORMS}"
        )
    if not capture.photos:
        first = next(iter(capture.left_out.items()), ("", "it names none"))
        raise FormatError(
            f"'{path}': no picture of it can be used; {': '.join(filter(None, first))}"
        )
    return capture


def save_as_colmap(capture: Capture, folder: Path, *, text: bool = False) -> None:
    """Write the cameras and points as PROJECT/sparse/0; pictures are not copied.

    Photos with equal lenses share a camera. Points have no tracks.
    """
    lenses: dict[Lens, int] = {}
    images: dict[int, ColmapImage] = {}
    for number, photo in enumerate(capture.photos, start=1):
        camera = lenses.setdefault(photo.lens, len(lenses) + 1)
        quat = quats_from_matrices(photo.viewmat[:3, :3]).numpy()
        images[number] = ColmapImage(photo.name, camera, quat, photo.viewmat[:3, 3].numpy())
    count = len(capture.points)
    points = Points(
        np.arange(1, count + 1),
        capture.points.double().numpy(),
        capture.rgb.numpy(),
        np.full(count, -1.0),
        [np.zeros((0, 2), np.int64)] * count,
    )
    cameras = {number: ColmapCamera.of(lens) for lens, number in lenses.items()}
    write_model(folder / "sparse" / "0", Model(cameras, images, points), text=text)


def save_as_transforms(capture: Capture, folder: Path) -> None:
    """Write the cameras as FOLDER/transforms.json; pictures must lie below the folder."""
    frames = [
        Frame(
            photo.path.relative_to(folder).as_posix(),
            photo.lens,
            photo.viewmat,
            None if photo.mask is None else photo.mask.relative_to(folder).as_posix(),
        )
        for photo in capture.photos
    ]
    write_transforms(folder / TRANSFORMS, frames)


def _from_colmap(project: Path, folder: Path) -> Capture:
    # a model may be named itself: PROJECT/sparse/0
    if folder == project:
        project = project.parent.parent if project.parent.name == "sparse" else project.parent
    model = read_model(folder)
    photos: list[Photo] = []
    left_out: dict[str, str] = {}
    for image in sorted(model.images.values(), key=lambda image: image.name):
        name = PurePosixPath(image.name.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            left_out[image.name] = "its path leads out of the project"
            continue
        found = next((p for f in _PICTURE_FOLDERS if _is_file(p := project / f / name)), None)
        if found is None:
            left_out[image.name] = f"no file '{project / _PICTURE_FOLDERS[0] / name}'"
            continue
        masks = (project / "masks" / f"{name}.png", (project / "masks" / name).with_suffix(".png"))
        mask = next((path for path in masks if _is_file(path)), None)
        lens = model.cameras[image.camera].lens
        photos.append(Photo(image.name, found, lens, image.viewmat(), mask))
    return Capture(
        photos,
        torch.from_numpy(model.points.xyz),
        torch.from_numpy(model.points.rgb),
        left_out,
        f"COLMAP project '{project}'",
    )


def _from_transforms(file: Path) -> Capture:
    found = read_transforms(file)
    root = file.parent
    photos = [
        Photo(f.name, root / f.name, f.lens, f.viewmat, None if f.mask is None else root / f.mask)
        for f in found.frames
    ]
    points, rgb = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.uint8)
    if found.points is not None:
        points, rgb = _read_points(root / found.points)
        undo = torch.linalg.inv(found.applied)
        points = points @ undo[:3, :3].T + undo[:3, 3]
    left_out = {name: f"no file '{root / name}'" for name in found.missing}
    return Capture(photos, points, rgb, left_out, f"'{file}'")


def _read_points(file: Path) -> tuple[Tensor, Tensor]:
    try:
        columns = read_vertices(file)
        xyz = np.stack([columns[name] for name in ("x", "y", "z")], 1).astype(np.float64)
    except (ValueError, KeyError, OSError) as error:
        raise FormatError(f"'{file}' holds no points: {error}") from None
    names = ("red", "green", "blue")
    rgb = np.full(xyz.shape, 128, np.uint8)
    if all(name in columns for name in names):
        rgb = np.stack([columns[name] for name in names], 1).astype(np.uint8)
    finite = np.isfinite(xyz).all(1)
    return torch.from_numpy(xyz[finite]), torch.from_numpy(rgb[finite])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
