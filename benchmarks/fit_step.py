"""Time of a step of a per-scene fit on the compiled engine, against its rasterizer alone.

    python benchmarks/fit_step.py                        # a table; a minute
    python benchmarks/fit_step.py --json out.json        # the same figures for a machine
    python benchmarks/fit_step.py --threads 1 2 --instruction-sets avx2

20,000 Gaussians cover 320x240 pixels, seen from one view, with plain colours and with spherical
harmonics of degree 3. A step is activations, rasterizer, L1 + SSIM, and Adam on all parameters; it
is divided by the rasterizer's own forward and backward pass on the same Gaussians. The parts take
turns.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from figures import Turns, median_figure, processor_name, write_report
from rasterizer import Scene, default_sets, in_new_process
from torch import Tensor

from recon.losses import l1_ssim
from recon.rasterize import rasterize
from recon.rasterize.cpu_library import INSTRUCTION_SET_VARIABLE

GAUSSIANS, WIDTH, HEIGHT, FOCAL = 20_000, 320, 240, 280.0


def fitted_scene(sh_degree: int | None) -> Scene:
    """Gaussians at random depths, about as wide as their distance on the picture."""
    generator = torch.Generator().manual_seed(0)
    u, v, depth = torch.rand(3, GAUSSIANS, generator=generator)
    depth = 2 * torch.exp(1.5 * depth)
    x, y = (u - 0.5) * WIDTH / FOCAL * depth, (v - 0.5) * HEIGHT / FOCAL * depth
    spacing = math.sqrt(WIDTH * HEIGHT / GAUSSIANS) / FOCAL
    spread = torch.exp(0.5 * torch.randn(GAUSSIANS, 3, generator=generator))
    if sh_degree is None:
        colors = torch.rand(GAUSSIANS, 3, generator=generator)
    else:
        colors = 0.2 * torch.randn(GAUSSIANS, (sh_degree + 1) ** 2, 3, generator=generator)
    return Scene(
        torch.stack([x, y, depth], -1),
        torch.randn(GAUSSIANS, 4, generator=generator),
        spacing * depth[:, None] * spread,
        0.1 + 0.85 * torch.rand(GAUSSIANS, generator=generator),
        colors,
        torch.eye(4)[None],
        torch.tensor([[[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]]),
    )


def measure(
    sh_degree: int | None, instruction_set: str, threads: int, seconds: float
) -> dict[str, list[float]]:
    """Times of the parts of a step, in a process of its own."""
    os.environ[INSTRUCTION_SET_VARIABLE] = instruction_set
    torch.set_num_threads(threads)
    scene = fitted_scene(sh_degree)
    leaves = [t.clone().requires_grad_() for t in scene[:5]]
    upstream = torch.rand(1, HEIGHT, WIDTH, 3)
    coarse = torch.rand(1, 3, HEIGHT // 8, WIDTH // 8)
    target = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")

    def render(*gaussians: Tensor) -> Tensor:
        return rasterize(
            *gaussians,
            viewmats=scene.viewmats,
            Ks=scene.Ks,
            width=WIDTH,
            height=HEIGHT,
            sh_degree=sh_degree,
            engine="cpu",
        ).image

    def rasterizer() -> None:
        torch.autograd.grad(render(*leaves), leaves, upstream)

    raw = [scene.means, scene.quats, scene.scales.log(), scene.opacities.logit()]
    # Degree 0 apart from the others, which learn more slowly.
    raw += [scene.colors] if sh_degree is None else [scene.colors[:, :1], scene.colors[:, 1:]]
    raw = [t.clone().requires_grad_() for t in raw]
    adam = torch.optim.Adam(raw, lr=1e-6, eps=1e-15, fused=True)
    image = torch.rand(1, HEIGHT, WIDTH, 3, requires_grad=True)

    def compare(image: Tensor) -> None:
        l1_ssim(image.movedim(-1, 1), target).sum().backward()

    def step() -> None:
        means, quats, scales, opacities, *colors = raw
        adam.zero_grad()
        joined = colors[0] if sh_degree is None else torch.cat(colors, 1)
        compare(render(means, quats, scales.exp(), opacities.sigmoid(), joined))
        adam.step()

    parts = {
        "rasterizer": rasterizer,
        "step": step,
        "loss": lambda: compare(image),
        "Adam": adam.step,
    }
    return times_in_turn_ms(parts, seconds)


def times_in_turn_ms(
    parts: Mapping[str, Callable[[], object]], seconds: float
) -> dict[str, list[float]]:
    """Times of each part; one after the other in turn, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for part in parts.values():
        part()  # warms up
    while min(map(len, times.values())) < 5 or sum(map(sum, times.values())) < 1e3 * seconds:
        for name, part in parts.items():
            begin = time.perf_counter()
            part()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--instruction-sets", nargs="+", default=default_sets())
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=8.0, help="spent on each row")
    args = parser.parse_args()

    print(f"{processor_name()}; {GAUSSIANS:,} @ {WIDTH}x{HEIGHT}; ms")
    print(f"{'':<14}{'threads':>8}{'rasterizer':>12}{'loss':>8}{'Adam':>8}{'step':>8}", end="")
    print(f"{'x rasterizer':>14}")
    figures = []
    for sh_degree in (None, 3):
        kind = "RGB" if sh_degree is None else f"SH {sh_degree}"
        for threads in args.threads:
            for instruction_set in args.instruction_sets:
                times = in_new_process(measure, sh_degree, instruction_set, threads, args.seconds)
                assert isinstance(times, dict)
                name = f"{kind} {instruction_set}, {threads} threads"
                figures += [median_figure(f"{name}, {k}", v, "ms") for k, v in times.items()]
                turns = Turns(times["step"], times["rasterizer"])
                ratio = turns.ratio(f"{name}, step of rasterizer", "step / rasterizer alone")
                figures.append(ratio)
                medians = {part: statistics.median(values) for part, values in times.items()}
                print(
                    f"{kind + ' ' + instruction_set:<14}{threads:>8}{medians['rasterizer']:>12.2f}"
                    f"{medians['loss']:>8.2f}{medians['Adam']:>8.2f}{medians['step']:>8.2f}"
                    f"{ratio.value:>14.2f}",
                    flush=True,
                )
    if args.json:
        write_report(args.json, "fit_step", figures, {"gaussians": GAUSSIANS})


if __name__ == "__main__":
    main()
