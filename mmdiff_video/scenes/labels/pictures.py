"""What of a scene's labels is written to look at: maps of some views, a sheet, a painted PLY."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmdiff_video.datasets.names import shown
from mmdiff_video.errors import InputError
from mmdiff_video.files import file_name, remove_folder, write_folder_aside
from mmdiff_video.pictures import save_png, side_by_side
from mmdiff_video.scenes.folder import LABEL_MAPS, LABELLED, LABELS, LIFT_REPORT
from mmdiff_video.scenes.labels.seen import Seen
from mmdiff_video.scenes.labels.stored import SceneLabels, save_labels
from mmdiff_video.scenes.labels.views import LiftView
from recon.gaussians import Gaussians
from recon.io.ply import save_ply

_SHEET = "sheet.png"
"""In the folder of the maps; what tells such a folder from others."""

_VIEWS = 5
"""Views that are drawn, spread over all."""

_SIDE = 256
"""Pixels of the longer side of a picture in the sheet."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A view: its picture, colours of what each head saw and of the labels, and the labels."""

    name: str
    pictures: list[NDArray[np.uint8]]
    maps: dict[str, Tensor]


class LabelPictures:
    """Keeps what is drawn of some views.

    Args:
        found: what the heads saw.
        names: of all views, in order.
    """

    def __init__(self, found: Sequence[Seen], names: Sequence[str]):
        self.found = found
        count = min(_VIEWS, len(names))
        self._wanted = {
            names[round(i * (len(names) - 1) / max(count - 1, 1))] for i in range(count)
        }
        self._drawn: list[_Drawn] = []

    def add(
        self,
        view: LiftView,
        pixels: NDArray[np.uint8],
        predictions: dict[str, Tensor],
        valid: Tensor,
    ) -> None:
        """Add a view, if it is one of those that are drawn.

        Args:
            view: its camera.
            pixels: its picture, uint8 [H0, W0, 3].
            predictions: rendered labels of each fused head, [C, H, W].
            valid: bool [H, W], where there are labels; elsewhere the picture is black.
        """
        if view.name not in self._wanted:
            return
        pictures = [pixels]
        for seen in self.found:
            own = seen.predictions[view.name].float()
            pictures.append(seen.task.color(own))
            if seen.task.name in predictions:
                colors = seen.task.color(predictions[seen.task.name], own)
                pictures.append(colors * valid[..., None].numpy())
        maps: dict[str, Tensor] = {}
        for seen in self.found:
            if seen.task.name in predictions:
                unknown = 0 if seen.classes is None else seen.classes.void
                maps[seen.task.name] = torch.where(valid, predictions[seen.task.name], unknown)
        self._drawn.append(_Drawn(view.name, pictures, maps))

    def write(self, folder: Path, notice: str) -> None:
        """Write the sheet, and the maps of each head as its task writes predictions."""
        size = _thumbnail(self._drawn[0].pictures[0])
        rows = [
            [np.asarray(Image.fromarray(picture).resize(size)) for picture in drawn.pictures]
            for drawn in self._drawn
        ]
        columns = ["picture"]
        for seen in self.found:
            name = seen.task.name
            columns += [f"{name}: head", f"{name}: scene"] if seen.channels is not None else [name]
        titles = [shown(drawn.name) for drawn in self._drawn]
        for drawn in self._drawn:
            for seen in self.found:
                if seen.task.name in drawn.maps:
                    path = folder / seen.task.name / f"{file_name(drawn.name)}.png"
                    seen.task.write(drawn.maps[seen.task.name], path)
        save_png(side_by_side(rows, columns, titles, notice), folder / _SHEET)


def check_maps_folder(folder: Path) -> None:
    """Refuse to put maps in the place of a folder that holds something else.

    Raises:
        InputError: there is one.
    """
    if not folder.exists() or (folder.is_dir() and not folder.is_symlink()):
        held = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        if not held or _SHEET in held:
            return
    raise InputError(f"'{folder}' is there already, and no earlier maps of labels: move it away")


def write_results(
    scene: Path,
    gaussians: Gaussians,
    labels: SceneLabels | None,
    drawn: LabelPictures,
    notice: str,
) -> None:
    """Write all but the report; what an earlier labelling left is replaced, or goes.

    Args:
        scene: its folder.
        gaussians: of its PLY.
        labels: of them; None: no head was fused.
        drawn: some views.
        notice: what must be said of a backbone; empty for nothing.
    """
    (scene / LIFT_REPORT).unlink(missing_ok=True)  # it says that all of this is whole
    if labels is None:
        (scene / LABELS).unlink(missing_ok=True)
        (scene / LABELLED).unlink(missing_ok=True)
    else:
        save_labels(scene, labels, gaussians)
        painted = Gaussians(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            labels.colors().float() / 255,
        )
        save_ply(scene / LABELLED, painted[_whole(painted)])
    maps = scene / LABEL_MAPS
    with write_folder_aside(maps) as aside:
        drawn.write(aside, notice)
        if maps.exists():
            remove_folder(maps)


def _whole(gaussians: Gaussians) -> Tensor:
    """[G] bool, which Gaussians a file can hold."""
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None])
    return torch.cat(parts, 1).isfinite().all(1)


def _thumbnail(picture: NDArray[np.uint8]) -> tuple[int, int]:
    height, width = picture.shape[:2]
    share = _SIDE / max(height, width)
    return max(1, round(width * share)), max(1, round(height * share))
