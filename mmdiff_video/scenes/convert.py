"""``mmdiff-video convert``: one scene in the formats of other programs, upright and centred."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmdiff_video.errors import InputError
from mmdiff_video.outputs import results_file
from mmdiff_video.scenes.scene_input import SceneInput, read_scene, warnings_told
from recon.gaussians import Gaussians
from recon.io.scene_files import SCENE_FORMATS, save_scene
from recon.upright import angle_degrees, move, up_of_cameras, upright_from_world


class Conversion(NamedTuple):
    """What was converted, and how.

    Attributes:
        source: file that was read.
        gaussians: as they were written.
        placed: what was done to the world, in words.
        sizes: file -> its bytes.
    """

    source: Path
    gaussians: Gaussians
    placed: str
    sizes: dict[Path, int]

    def __str__(self) -> str:
        lines = [f"{self.source}: {_describe(self.gaussians)}", self.placed]
        lines += [f"{name:<9} {_range(values)}" for name, values in _values(self.gaussians)]
        lines += [f"{path}: {_bytes(size)}" for path, size in self.sizes.items()]
        return "\n".join(lines)


def convert(
    source: Path, outs: Sequence[Path], *, cameras: Path | None = None, keep_world: bool = False
) -> Conversion:
    """Read a scene and write it once for each file, in the format that its ending says.

    Args:
        source: see :func:`mmdiff_video.scenes.scene_input.read_scene`.
        outs: files to write; each appears complete or not at all.
        cameras: see there.
        keep_world: leave positions and axes as they are.

    Raises:
        InputError: nothing to read, an ending that is not known, a file that is written twice or
            over the source, another process that writes it, or more Gaussians than a format takes.
        OSError: a file cannot be read or written.
    """
    for out in outs:
        if out.suffix.lower() not in SCENE_FORMATS:
            raise InputError(f"'{out}' must end in one of {', '.join(SCENE_FORMATS)}")
    places = [os.path.realpath(out) for out in outs]
    if twice := next(
        (out for out, at in zip(outs, places, strict=True) if places.count(at) > 1), None
    ):
        raise InputError(f"'{twice}' is named twice: give every result its own file")
    scene = read_scene(source, cameras)
    for out in outs:
        if out.exists() and out.samefile(scene.path):
            raise InputError(f"'{out}' is what is converted: write to another file")
    if keep_world:
        gaussians, placed = scene.gaussians, "the world is left as it is"
    else:
        gaussians, placed = _placed(scene)
    for out in outs:
        with results_file(out, "convert"), warnings_told():
            try:
                save_scene(out, gaussians)
            except ValueError as error:  # what a format cannot hold
                raise InputError(f"'{out}' cannot be written: {error}") from None
    sizes = {out: out.stat().st_size for out in outs}
    return Conversion(scene.path, gaussians, placed, sizes)


def _placed(scene: SceneInput) -> tuple[Gaussians, str]:
    up = None if scene.cameras is None else up_of_cameras(scene.cameras.viewmats)
    T = upright_from_world(scene.gaussians, up)
    shift = "centred: moved by " + " ".join(f"{x:.4g}" for x in T[:3, 3].tolist())
    if up is not None:
        assert scene.cameras is not None
        turned = f"upright by {len(scene.cameras.lenses)} cameras: turned by"
        turned += f" {angle_degrees(T[:3, :3]):.1f} degrees so that y points down, then "
    elif scene.cameras is not None:
        turned = "the axes are kept, because its cameras do not agree on what is up; "
    else:
        turned = "the axes are kept, because no camera says what is up; "
    return move(scene.gaussians, T), turned + shift


def _describe(gaussians: Gaussians) -> str:
    degree = gaussians.sh_degree
    colors = "plain colours" if degree is None else f"spherical harmonics of degree {degree}"
    return f"{gaussians.num:,} Gaussians, {colors}"


def _values(gaussians: Gaussians) -> list[tuple[str, Tensor]]:
    named = [(name, gaussians.means[:, axis]) for axis, name in enumerate("xyz")]
    named += [("scale", gaussians.scales), ("opacity", gaussians.opacities)]
    if gaussians.sh_degree is None:
        return [*named, ("colour", gaussians.colors)]
    return [*named, ("harmonics", gaussians.colors)]


def _range(values: Tensor) -> str:
    low, high = torch.aminmax(values)
    return f"{float(low):.6g} to {float(high):.6g}"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
