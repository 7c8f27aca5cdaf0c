"""``mmdiff-video concepts``: overlays that show where the words of a list lie in a picture."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mmdiff_video.backbones import UNTRAINED_NOTICE, Backbone, load_backbone
from mmdiff_video.backbones.concepts.reader import check_concepts
from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.errors import InputError
from mmdiff_video.files import file_name
from mmdiff_video.outputs import results_folder
from mmdiff_video.pictures import save_png, side_by_side, stamp, to_uint8

_STRENGTH = 0.65
"""Share of the map's colour in an overlay."""


def draw_concepts(
    concepts: Sequence[str],
    out: Path,
    *,
    prompt: str | None = None,
    image: Path | None = None,
    backbone: str = "nano-flux",
    blocks: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Path]:
    """Read concept maps off a picture, or off a sample of the prompt, and draw them over it.

    Args:
        concepts: see :mod:`mmdiff_video.backbones.concepts.reader`.
        out: folder that receives ``concepts.png``, all maps side by side, and one overlay for each
            concept; of a clip, each is a strip of the frames that have a map.
        prompt: what to sample; beside an image, what it shows (None: the backbone's default).
        image: a picture file, resized to about the backbone's default size.
        backbone: name, hub id or folder.
        blocks: blocks whose maps are averaged; None for all.
        seed: of the sample, or of the noise on the image.

    Returns:
        The files written.

    Raises:
        InputError: neither prompt nor image, a file that is no picture, concepts that do not fit.
    """
    names = check_concepts(concepts)
    if not names:
        raise InputError("no concepts given; give words such as object,background")
    if prompt is None and image is None:
        raise InputError("nothing to look at: give a prompt to sample from, or an image")
    if image is not None and not image.is_file():  # a pipe would be waited for
        raise InputError(f"there is no file '{image}'")
    model = load_backbone(backbone)
    if image is None:
        assert prompt is not None
        sample = model.generate(prompt, taps=[], seed=seed, concepts=names, concept_blocks=blocks)
        video, features = sample.video, sample.features
    else:
        video = _read(image, model)
        features = model.extract(
            video,
            prompt,
            taps=[],
            keys=[image.name],
            seed=seed,
            concepts=names,
            concept_blocks=blocks,
        )
    assert features.concepts is not None
    note = UNTRAINED_NOTICE if model.untrained else ""
    with results_folder(out, "concepts"):
        return _save(out, names, video[0].cpu(), features.concepts[0].cpu(), note)


def _read(path: Path, model: Backbone) -> Tensor:
    """Read a picture at about the default area, in its own shape: [1, 3, 1, H, W] in [0, 1]."""
    try:
        picture = Image.fromarray(read_rgb(path, upright=True))
    except PictureError as error:
        raise InputError(str(error)) from None
    d, cell = model.defaults, model.geometry.space_stride * model.geometry.patch
    scale = (d.width * d.height / (picture.width * picture.height)) ** 0.5
    width, height = (max(round(side * scale / cell), 1) * cell for side in picture.size)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None, :, None] / 255


def _save(out: Path, names: Sequence[str], video: Tensor, maps: Tensor, note: str) -> list[Path]:
    """Write the overlays of maps [K, F, H, W] on a video [3, frames, height, width]."""
    count, frames = maps.shape[1], video.shape[1]
    # a latent frame lies over the last of the frames that it was made of
    shown = [round(i * (frames - 1) / max(count - 1, 1)) for i in range(count)]
    pictures = video[:, shown].permute(1, 2, 3, 0)  # [F, height, width, 3]
    rows = [list(to_uint8(pictures))]
    titles = ["picture"]
    files: list[Path] = []
    for i, (name, one) in enumerate(zip(names, maps, strict=True)):
        low, high = one.min().item(), one.max().item()
        rows.append(list(to_uint8(_overlay(pictures, (one - low) / max(high - low, 1e-9)))))
        titles.append(f"{name} {low:.2f} to {high:.2f}")
        strip = np.concatenate(rows[-1], axis=1)
        word = re.sub(r"\W+", "-", name).strip("-")
        path = out / f"{file_name(f'{i}-{word}'.rstrip('-'))}.png"
        save_png(Image.fromarray(stamp(strip, note) if note else strip), path)
        files.append(path)
    if count == 1:
        sheet = side_by_side([[row[0] for row in rows]], titles, note=note)
    else:
        sheet = side_by_side(rows, [f"frame {f}" for f in shown], titles, note=note)
    save_png(sheet, out / "concepts.png")
    return [out / "concepts.png", *files]


def _overlay(pictures: Tensor, level: Tensor) -> Tensor:
    """Lay maps [F, H, W] in [0, 1] over pictures [F, height, width, 3]: bright is much."""
    from matplotlib import colormaps

    level = F.interpolate(level[:, None], pictures.shape[1:3], mode="bilinear")[:, 0]
    colors = torch.from_numpy(colormaps["inferno"](level.numpy())[..., :3].astype(np.float32))
    grey = pictures.mean(dim=-1, keepdim=True)  # the map alone has colour
    return _STRENGTH * colors + (1 - _STRENGTH) * grey
