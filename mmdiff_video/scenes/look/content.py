"""What there is to look at: Gaussians, pictures with their cameras, points, labels."""

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.datasets.picture_decoding import PictureError
from mmdiff_video.datasets.picture_files import read_rgb
from mmdiff_video.errors import InputError
from mmdiff_video.pictures import to_uint8
from mmdiff_video.runs import FACTS
from mmdiff_video.scenes.folder import CAMERAS, CAPTURE, GAUSSIANS, is_scene
from mmdiff_video.scenes.labels.stored import label_colors
from mmdiff_video.scenes.look.camera_path import Camera
from mmdiff_video.scenes.scene_input import read_scene
from mmdiff_video.skipped import Skipped, reasons
from recon.capture.capture import TRANSFORMS, Capture, load_capture
from recon.gaussians import Gaussians
from recon.io.colmap import find_model
from recon.io.format_error import FormatError
from recon.io.scene_files import SCENE_FORMATS
from recon.upright import up_of_cameras

logger = logging.getLogger(__name__)

_THUMBNAIL = 160
"""Pixels of the longer side: as large as a frustum is on a screen."""


@dataclass(frozen=True, eq=False)
class View:
    """A picture that was taken of the scene.

    Attributes:
        name: of the picture.
        camera: that took it; a distortion of its lens is left aside.
        aspect: width over height, of what the camera sees.
        thumbnail: uint8 [h, w, 3]; None where the picture could not be read.
    """

    name: str
    camera: Camera
    aspect: float
    thumbnail: NDArray[np.uint8] | None


@dataclass(frozen=True, eq=False)
class Content:
    """What there is to look at, in one world.

    Attributes:
        name: of the scene, for titles and files.
        gaussians: one scene of finite numbers; None: there are cameras and points alone.
        views: pictures with their cameras.
        points: [N, 3] float32.
        rgb: [N, 3] uint8, colours of the points.
        labels: [G, 3] uint8, a colour for each Gaussian by its label; None: they have none.
        notice: what a viewer should be told, for instance that a backbone is untrained.
        background: what is behind all, 0 is black, as fits of scenes have it, 1 white, as runs.
    """

    name: str
    gaussians: Gaussians | None = None
    views: list[View] = field(default_factory=list)
    points: Tensor = field(default_factory=lambda: torch.zeros(0, 3))
    rgb: Tensor = field(default_factory=lambda: torch.zeros(0, 3, dtype=torch.uint8))
    labels: Tensor | None = None
    notice: str = ""
    background: float = 1.0

    @cached_property
    def up(self) -> Tensor:
        """[3] float64 of unit length: what the cameras have above them; else -y."""
        found = None
        if self.views:
            found = up_of_cameras(torch.stack([view.camera.viewmat for view in self.views]))
        return torch.tensor([0.0, -1.0, 0.0]).double() if found is None else found

    @cached_property
    def near(self) -> float:
        """Camera z, in world units, of the nearest that is drawn."""
        return 1e-3 * self.focus(self.first_camera)

    @cached_property
    def solid(self) -> Tensor:
        """[M, 3] float64 on the CPU: where something is, Gaussians or else points."""
        if self.gaussians is None:
            return self.points.double()
        shown = self.gaussians.opacities > min(0.5, float(self.gaussians.opacities.max()) / 2)
        return self.gaussians.means[shown].double().cpu()

    def focus(self, camera: Camera) -> float:
        """Median distance, along the axis of a camera, of what lies before it: what to turn about.

        Where nothing does, it is the spread of the cameras, or 1.
        """
        depths = self.solid @ camera.viewmat[2, :3] + camera.viewmat[2, 3]
        before = depths[depths > 1e-6]
        if len(before):
            return float(before.median())
        if len(self.views) > 1:
            centres = torch.stack([view.camera.centre for view in self.views])
            return max(float((centres - centres.mean(0)).norm(dim=1).max()), 1e-3)
        return 1.0

    @cached_property
    def first_camera(self) -> Camera:
        """Where a visitor starts: of Gaussians with the middle one of the pictures, else before."""
        if self.views and self.gaussians is not None:
            return self.views[len(self.views) // 2].camera
        centres = [view.camera.centre for view in self.views]
        ahead = [view.camera.axes[2] for view in self.views]
        solid = torch.cat([self.solid, *(centre[None] for centre in centres)])
        centre = solid.median(0).values
        radius = float((solid - centre).norm(dim=1).sort().values[int(0.9 * (len(solid) - 1))])
        forward = torch.stack(ahead).mean(0) if ahead else centre.new_tensor([0.0, 0.0, 1.0])
        # cameras all round look nowhere together
        if forward.norm() < 0.1:
            forward = ahead[0]
        forward = forward / forward.norm()
        return Camera.facing(centre - 2 * (radius or 1.0) * forward, forward, self.up)


def load_content(
    path: Path, *, clip: str | None = None, split: str = "test", data_root: Path | None = None
) -> Content:
    """Read whatever can be looked at.

    Args:
        path: folder of a scene, file of Gaussians, run of ``train-3dgs``, or capture (a COLMAP
            project, or a ``transforms.json`` or its folder).
        clip: of the data of a run: its key; None: the first of the split.
        split: of the data of a run.
        data_root: where the data of a run lies now, if it moved.

    Raises:
        InputError: nothing of that kind is there, or it cannot be read.
    """
    if not path.exists():
        raise InputError(f"'{path}' is not there: neither a file nor a folder")
    if clip is not None and not (path / FACTS).is_file():
        raise InputError(f"only a run has clips to choose from, and '{path}' is none")
    try:
        if path.is_file() and path.suffix.lower() != ".json":
            return _of_file(path)
        if is_scene(path):
            return _of_scene(path)
        if (path / FACTS).is_file():
            return _of_run(path, clip, split, data_root)
        if path.is_file() or (path / TRANSFORMS).is_file() or find_model(path) is not None:
            return _of_capture(path)
    except FormatError as error:
        raise InputError(str(error)) from None
    raise InputError(
        f"'{path}' is nothing to look at: it is no scene ({GAUSSIANS}), run of train-3dgs ({FACTS})"
        f" or capture (sparse/0 of COLMAP, or {TRANSFORMS}); name one of these, or a file of"
        f" Gaussians ({', '.join(SCENE_FORMATS)})"
    )


def _of_file(file: Path) -> Content:
    return Content(file.stem, _here(read_scene(file).gaussians), background=0.0)


def _of_scene(folder: Path) -> Content:
    gaussians = read_scene(folder / GAUSSIANS).gaussians
    labels = label_colors(folder)
    if labels is not None and len(labels) != gaussians.num:
        raise InputError(
            f"'{folder}' has labels of {len(labels)} Gaussians and shows {gaussians.num}: label it"
            " anew"
        )
    name = folder.resolve().name
    content = Content(name, _here(gaussians), labels=labels, background=0.0)
    try:
        found = [load_capture(p) for p in (folder / CAPTURE, folder / CAMERAS) if p.exists()]
    except FormatError as error:
        logger.warning("%s: the scene is shown without its pictures", error)
        return content
    if not found:
        return content
    # the points are of the capture, the cameras as the fit left them
    return replace(
        content, views=_views(found[-1]), points=found[0].points.float(), rgb=found[0].rgb
    )


def _of_capture(path: Path) -> Content:
    capture = load_capture(path)
    folder = path.parent if path.is_file() else path
    name = folder.resolve().name
    return Content(name, None, _views(capture), capture.points.float(), capture.rgb)


def _of_run(run: Path, clip: str | None, split: str, data_root: Path | None) -> Content:
    from mmdiff_video.nvs.render import reconstruct_clip

    made = reconstruct_clip(run, clip, split, data_root)
    pictures = to_uint8(made.batch.video[0].movedim(0, -1))  # [F, H, W, 3]
    height, width = pictures.shape[1:3]
    views = [
        View(f"frame {number}", Camera.of(viewmat, K, height), width / height, picture)
        for number, (viewmat, K, picture) in enumerate(
            zip(made.batch.input_viewmats[0], made.batch.input_Ks[0], pictures, strict=True)
        )
    ]
    notice = made.reconstructor.setup.notice
    return Content(made.clip.key, _here(made.gaussians), views, notice=notice)


def _here(gaussians: Gaussians) -> Gaussians:
    """Where they are rendered soonest."""
    return gaussians.detach().to("cuda" if torch.cuda.is_available() else "cpu")


def _views(capture: Capture) -> list[View]:
    """Say what is skipped; a picture that cannot be read leaves its camera."""
    views: list[View] = []
    skipped = [Skipped(name, why) for name, why in capture.left_out.items()]
    for photo in capture.photos:
        try:
            thumbnail = Image.fromarray(read_rgb(photo.path))
            thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
            picture = np.asarray(thumbnail)
        except PictureError as error:
            skipped.append(Skipped(photo.name, str(error)))
            picture = None
        lens = photo.lens
        camera = Camera.of(photo.viewmat, lens.K(), lens.height)
        aspect = lens.width / lens.fx * lens.fy / lens.height
        views.append(View(photo.name, camera, aspect, picture))
    if skipped:
        logger.warning("%s%s", capture.source, reasons(skipped))
    return views
