"""Time and memory of one forward and backward pass of every rasterisation engine that works here.

    python benchmarks/rasterizer.py                            # a table; two minutes on two cores
    python benchmarks/rasterizer.py --json out.json            # the same figures for a machine
    python benchmarks/rasterizer.py --engines cpu --threads 1 2 4
    python benchmarks/rasterizer.py --instruction-sets avx2    # the compiled engine as on a laptop

The scene is what a latent-to-3DGS decoder emits: one Gaussian for every second pixel of four nearby
views, about as wide as their distance, rendered into one view, in float32. Every row runs in a
process of its own. Figures are medians in milliseconds; peak memory is what the passes add to the
process.

``projection`` is no engine: it is the EWA projection of all Gaussians alone, forward and backward
with torch's autograd, the least that a renderer around it would take. ``floor`` is the arithmetic
of the pixels within reach of each Gaussian at the speed of this machine's matrix product; nothing
that computes the exponentials can come close to it.
"""

import argparse
import math
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from figures import Figure, median_figure, processor_name, ratio_figure, write_report
from torch import Tensor

from recon.rasterize import auto_engine, cpu_library, rasterize
from recon.rasterize.contract import Camera, Splats
from recon.rasterize.cpu_library import INSTRUCTION_SET_VARIABLE
from recon.rasterize.gsplat_engine import unavailable
from recon.rasterize.projection import footprint_axes, project_gaussians, whiten

SIDES = (64, 256, 512)
FLOPS_PER_PAIR = 20 + 2 * 4 + 40 + 4 * 4
"""Of one pixel and one Gaussian: alpha and blending of RGB and depth, and their derivatives."""


class Scene(NamedTuple):
    """The tensors that ``rasterize`` takes, in its order."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor


def pixel_aligned_scene(side: int, device: str) -> Scene:
    """side^2 Gaussians, and one view of them."""
    generator = torch.Generator().manual_seed(0)
    half, focal = side // 2, float(side)
    grid = 2 * torch.arange(half) + 1.0
    v, u = torch.meshgrid(grid, grid, indexing="ij")
    means = []
    for view in range(4):
        bumps = torch.rand(1, 1, 8, 8, generator=generator)
        depth = 2.5 + 2 * torch.nn.functional.interpolate(bumps, (half, half), mode="bicubic")[0, 0]
        points = torch.stack([(u - half) / focal * depth, (v - half) / focal * depth, depth], -1)
        means.append(points.flatten(0, 1) + torch.tensor([0.06 * view - 0.1, 0.02 * view, 0.0]))
    means = torch.cat(means)
    count = len(means)
    one_pixel = means[:, 2:] / focal  # half the distance of neighbours
    spread = torch.exp(0.3 * torch.randn(count, 3, generator=generator))
    scene = Scene(
        means,
        torch.randn(count, 4, generator=generator),
        one_pixel * spread,
        0.35 + 0.6 * torch.rand(count, generator=generator),
        torch.rand(count, 3, generator=generator),
        torch.eye(4)[None],
        torch.tensor([[[focal, 0, half], [0, focal, half], [0, 0, 1]]]),
    )
    return Scene(*(tensor.to(device) for tensor in scene))


def times_ms(run: Callable[[], object], device: str, seconds: float) -> list[float]:
    """Times of at least three runs, and as many as fit into ``seconds``."""
    times: list[float] = []
    run()  # warms up
    while len(times) < 3 or sum(times) < seconds:
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return [1e3 * time for time in times]


def measure(
    engine: str, device: str, side: int, threads: int, seconds: float, instruction_set: str | None
) -> dict:
    """One row, in a process of its own."""
    if instruction_set is not None:
        os.environ[INSTRUCTION_SET_VARIABLE] = instruction_set
    torch.set_num_threads(threads)
    scene = pixel_aligned_scene(side, device)
    gaussians = [t.requires_grad_() for t in scene[:5]]
    upstream = torch.rand(1, side, side, 3, device=device)
    backgrounds = torch.ones(3, device=device)
    before = _peak_bytes(device)

    if engine == "projection":

        def forward() -> Tensor:
            return _projection(scene, side)

        def forward_backward() -> object:
            return torch.autograd.grad(forward().sum(), gaussians[:3])
    else:

        def forward() -> Tensor:
            return rasterize(
                **scene._asdict(),
                width=side,
                height=side,
                backgrounds=backgrounds,
                engine=engine,
            ).image

        def forward_backward() -> object:
            return torch.autograd.grad(forward(), gaussians, upstream)

    def inference() -> None:
        with torch.no_grad():
            forward()

    alone = times_ms(inference, device, seconds)
    both = times_ms(forward_backward, device, seconds)
    row = {
        "engine": engine,
        "device": device,
        "instruction_set": instruction_set,
        "gaussians": len(scene[0]),
        "side": side,
        "threads": threads,
        "forward_ms": statistics.median(alone),
        "forward_backward_ms": statistics.median(both),
    }
    where = instruction_set or device
    name = f"{engine} {where}, {row['gaussians']:,} @ {side}x{side}, {threads} threads"
    row["figure"] = median_figure(f"{name}, forward and backward", both, "ms")
    return row | {"peak_mib": (_peak_bytes(device) - before) / 2**20}


def _projection(scene: Scene, side: int) -> Tensor:
    """Means, inverse covariances and depths in one tensor."""
    camera = Camera(scene.viewmats[0], scene.Ks[0], side, side, 0.01, 1e10)
    R, t, K = camera.viewmat[:3, :3], camera.viewmat[:3, 3], camera.K
    in_camera = scene.means @ R.T + t
    x, y, z = in_camera.unbind(-1)
    factors = whiten(*footprint_axes(in_camera, scene.quats, scene.scales, camera))
    u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
    return torch.cat([torch.stack([u, v, z], -1), factors], -1)


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def floor_ms(side: int, threads: int) -> float:
    """Arithmetic of all pairs of a pixel and a Gaussian in reach, at the speed of a product."""
    torch.set_num_threads(threads)
    *gaussians, viewmats, Ks = pixel_aligned_scene(side, "cpu")
    splats = Splats(*gaussians)
    seen = project_gaussians(splats, Camera(viewmats[0], Ks[0], side, side, 0.01, 1e10))
    a, b, c = seen.conics.double().unbind(-1)
    # Area of the ellipse in which opacity * exp(-sigma) >= 1/255.
    pairs = 2 * math.pi * (255 * splats.opacities[seen.ids].double()).log() / (a * c - b * b).sqrt()
    matrix = torch.rand(1024, 1024)
    product = statistics.median(times_ms(lambda: matrix @ matrix, "cpu", 0.5))
    flops_per_ms = 2 * 1024**3 / product
    return pairs.sum().item() * FLOPS_PER_PAIR / flops_per_ms


def default_sets() -> list[str]:
    """The best instruction set of this machine, and what most laptops have."""
    if cpu_library.unavailable() is not None:
        return []
    here = cpu_library.instruction_sets()
    return [here[0], *(name for name in here[1:] if name == "avx2")]


def in_new_process(function: Callable[..., object], *arguments: object) -> object:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument(
        "--engines", nargs="+", default=["projection", "cpu", "torch"], help="on the CPU"
    )
    parser.add_argument(
        "--instruction-sets", nargs="+", default=default_sets(), help="of the compiled engine"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--sides", nargs="+", type=int, default=SIDES, help="of the image")
    parser.add_argument("--seconds", type=float, default=2.0, help="spent on each figure")
    args = parser.parse_args()

    engines = sorted(args.engines, key=lambda engine: engine != "projection")  # others refer to it
    jobs = [
        (engine, "cpu", threads, instruction_set)
        for threads in args.threads
        for engine in engines
        for instruction_set in (args.instruction_sets if engine == "cpu" else [None])
    ]
    if torch.cuda.is_available():
        jobs.append(("torch", "cuda", 1, None))
        if (reason := unavailable()) is None:
            jobs.append(("gsplat", "cuda", 1, None))
        else:
            print(f"gsplat left out: {reason}")
    machine = {
        "processor": processor_name(),
        "cpu engine": auto_engine("cpu").why,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }
    print("\n".join(f"{key}: {value}" for key, value in machine.items()))
    print(f"{'':<18}{'scene':<20}{'threads':>8}{'forward':>10}{'+ backward':>12}", end="")
    print(f"{'x projection':>14}{'peak MiB':>10}{'floor':>8}")
    rows, figures = [], []
    for side in args.sides:
        floors = {t: in_new_process(floor_ms, side, t) for t in args.threads}
        alone: dict[int, Figure] = {}
        for engine, device, threads, instruction_set in jobs:
            row = in_new_process(
                measure, engine, device, side, threads, args.seconds, instruction_set
            )
            assert isinstance(row, dict)
            figure: Figure = row.pop("figure")
            figures.append(figure)
            if engine == "projection":
                alone[threads] = figure
            if device == "cpu":
                row["floor_ms"] = floors[threads]
                if threads in alone:
                    row["of_projection"] = figure.value / alone[threads].value
                if threads in alone and engine != "projection":
                    name = f"{figure.name}, of projection"
                    of = "engine / projection alone"
                    figures.append(ratio_figure(name, figure, alone[threads], of))
            rows.append(row)
            print(_line(row), flush=True)
    if args.json:
        write_report(args.json, "rasterizer", figures, {"machine": machine, "results": rows})


def _line(row: dict) -> str:
    scene = f"{row['gaussians']:,} @ {row['side']}x{row['side']}"
    ratio = f"{row['of_projection']:.2f}" if "of_projection" in row else ""
    floor = f"{row['floor_ms']:.1f}" if "floor_ms" in row else ""
    where = row["instruction_set"] or row["device"]
    return (
        f"{row['engine'] + ' ' + where:<18}{scene:<20}{row['threads']:>8}"
        f"{row['forward_ms']:>10.2f}{row['forward_backward_ms']:>12.2f}{ratio:>14}"
        f"{row['peak_mib']:>10.0f}{floor:>8}"
    )


if __name__ == "__main__":
    main()
