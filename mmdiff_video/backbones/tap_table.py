"""What can be tapped and what it costs, told without loading weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmdiff_video.backbones.base import UNTRAINED_NOTICE
from mmdiff_video.backbones.describe import describe
from mmdiff_video.backbones.features import TapSpec
from mmdiff_video.backbones.taps import resolve_taps, stream_ranges
from mmdiff_video.backbones.types import check_timesteps
from mmdiff_video.tables import format_bytes

_BF16_BYTES = 2


@dataclass(frozen=True)
class TapTable:
    """The taps of a backbone at one size; ``str()`` is ready to print.

    Attributes:
        name: the backbone as it was asked for.
        size: (frames, height, width) in pixels.
        grid: (F, H, W) of the token grid, which the feature maps have.
        taps: every block, in forward order.
        default_stream: what bare indices count in.
        chosen: the default taps.
        timesteps: the set T that the memory is counted for.
        untrained: True for random weights.
    """

    name: str
    size: tuple[int, int, int]
    grid: tuple[int, int, int]
    taps: tuple[TapSpec, ...]
    default_stream: str
    chosen: tuple[TapSpec, ...]
    timesteps: tuple[float, ...]
    untrained: bool

    def nbytes(self, tap: TapSpec) -> int:
        """Memory of one tap of one sample at all timesteps, in bfloat16."""
        return len(self.timesteps) * tap.width * math.prod(self.grid) * _BF16_BYTES

    def __str__(self) -> str:
        frames, height, width = self.size
        grid = " x ".join(map(str, self.grid))
        times = ", ".join(f"{t:g}" for t in self.timesteps)
        rows = [("blocks", "width", f"memory of one tap at {len(self.timesteps)} timesteps, bf16")]
        for stream in dict.fromkeys(tap.stream for tap in self.taps):
            specs = [tap for tap in self.taps if tap.stream == stream]
            rows.append(
                (stream_ranges(specs)[0], str(specs[0].width), format_bytes(self.nbytes(specs[0])))
            )
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        total = format_bytes(sum(map(self.nbytes, self.chosen)))
        lines = [
            f"{self.name} at {frames} x {height} x {width} (frames x height x width)",
            f"token grid F x H x W: {grid} = {math.prod(self.grid)} tokens",
            "",
            *(f"  {a:<{first}}  {b:>{second}}  {c}" for a, b, c in rows),
            "",
            f"default taps: {', '.join(tap.name for tap in self.chosen)} ({total} a sample)",
            f"timesteps: {times}",
            f"short forms count in '{self.default_stream}': 4, -1, last-4",
        ]
        if self.untrained:
            lines.append(UNTRAINED_NOTICE)
        return "\n".join(lines)


def describe_taps(
    name_or_path: str,
    *,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    timesteps: Sequence[float] | None = None,
) -> TapTable:
    """List the taps of a backbone and their memory at a size; no weights are loaded.

    A registered name is described by its shipped card, a folder or hub id by its config files.

    Args:
        name_or_path: a registered name, a hub id or a local diffusers folder.
        frames, height, width: size in pixels; None means the backbone's default.
        timesteps: the set T; None means the backbone's default.

    Raises:
        InputError: an unknown backbone, a size that does not fit it, or a wrong timestep.
    """
    known = describe(name_or_path)
    defaults, layout = known.defaults, known.layout
    size = (
        defaults.frames if frames is None else frames,
        defaults.height if height is None else height,
        defaults.width if width is None else width,
    )
    layout.geometry.check_size(*size)
    return TapTable(
        name=name_or_path,
        size=size,
        grid=layout.geometry.token_grid(*size),
        taps=layout.taps,
        default_stream=layout.default_stream,
        chosen=tuple(resolve_taps(defaults.taps, layout.taps, layout.default_stream)),
        timesteps=check_timesteps(defaults.timesteps if timesteps is None else timesteps),
        untrained=known.untrained,
    )
