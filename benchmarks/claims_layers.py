"""The layer and timestep analysis of the paper's Figs. 3 and 5, with its pictures."""

from pathlib import Path

import torch
from tqdm import tqdm

from mmdiff_video.backbones import Backbone
from mmdiff_video.features.analysis import LayerStatistics, channel_entropy, layer_statistics
from mmdiff_video.files import write_aside
from mmdiff_video.rooms import draw_rooms, make_room


def analyse(backbone: Backbone, samples: int) -> LayerStatistics:
    """Read every block on held-out rooms: stills for an image backbone, clips for a video one."""
    d = backbone.defaults
    clips = draw_rooms(
        (make_room("test", i) for i in range(samples)),
        frames=d.frames,
        height=d.height,
        width=d.width,
    )
    taps = [spec.name for spec in backbone.tap_specs()]

    def read():
        for i, clip in enumerate(
            tqdm(clips, total=samples, desc=f"layers of {backbone.name}", disable=None)
        ):
            video = torch.from_numpy(clip.rgb).permute(3, 0, 1, 2)[None].float() / 255
            yield backbone.extract(video, clip.caption, taps, keys=[f"layers-{i}"])

    return layer_statistics(read())


def draw_statistics(statistics: LayerStatistics, title: str, path: Path) -> None:
    """Norm, its variation and entropy by layer, one line per timestep; correlation of layers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.4), layout="constrained")
    panels = figure.subplots(1, 4)
    layers = range(len(statistics.taps))
    for panel, name, values in (
        (panels[0], "token norm", statistics.norm),
        (panels[1], "variation of the token norms", statistics.norm_variation),
        (panels[2], "entropy over channels", statistics.entropy),
    ):
        for t, column in zip(statistics.timesteps, values.T, strict=True):
            panel.plot(layers, column, marker="o", markersize=3, label=f"t = {t:g}")
        panel.set_title(name, fontsize=10)
    panels[0].set_yscale("log")
    panels[0].legend(fontsize=8)
    image = panels[3].imshow(statistics.correlation.mean(0), vmin=0, vmax=1, cmap="viridis")
    panels[3].set_title("correlation between layers", fontsize=10)
    figure.colorbar(image, ax=panels[3])
    for panel in panels:
        panel.set_xticks(list(layers), statistics.taps, rotation=90, fontsize=6)
    panels[3].set_yticks(list(layers), statistics.taps, fontsize=6)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=80)


def draw_entropy(backbone: Backbone, path: Path, rooms: int = 3) -> None:
    """Entropy maps of the deepest default tap over the timesteps, beside the pictures."""
    from matplotlib.figure import Figure

    d = backbone.defaults
    tap = backbone.resolve_taps()[-1].name
    figure = Figure(figsize=(2 * (1 + len(d.timesteps)), 2 * rooms), layout="constrained")
    panels = figure.subplots(rooms, 1 + len(d.timesteps), squeeze=False)
    for i, row in enumerate(panels):
        clip = next(
            iter(
                draw_rooms(
                    [make_room("test", i)],
                    workers=1,
                    frames=d.frames,
                    height=d.height,
                    width=d.width,
                )
            )
        )
        video = torch.from_numpy(clip.rgb).permute(3, 0, 1, 2)[None].float() / 255
        maps = backbone.extract(video, clip.caption, [tap], keys=[f"entropy-{i}"]).maps[tap]
        entropy = channel_entropy(maps)[0, :, 0]  # [T, H, W] of the first frame
        row[0].imshow(clip.rgb[0])
        for panel, t, values in zip(row[1:], d.timesteps, entropy, strict=True):
            panel.imshow(values, vmin=float(entropy.min()), vmax=float(entropy.max()))
            if i == 0:
                panel.set_title(f"t = {t:g}", fontsize=9)
        for panel in row:
            panel.set_axis_off()
    figure.suptitle(f"{backbone.name}, {tap}: entropy over channels", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=80)
