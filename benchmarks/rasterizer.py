"""Time and memory of one forward and backward pass of every rasterisation engine that works here.

    python benchmarks/rasterizer.py                            # tables; four minutes on two cores
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

The second table is a step of a per-scene fit on the compiled engine: 20,000 Gaussians at 320x240,
one view, activations, rasterizer, L1 + SSIM, and Adam on all parameters, against the rasterizer's
own forward and backward pass on the same Gaussians. The parts take turns.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from recon.losses import l1_ssim
from recon.rasterize import auto_engine, cpu_library, rasterize
from recon.rasterize.contract import Camera, Splats
from recon.rasterize.cpu_library import INSTRUCTION_SET_VARIABLE
from recon.rasterize.gsplat_engine import unavailable
from recon.rasterize.projection import footprint_axes, project_gaussians, whiten

SIDES = (64, 256, 512)
FIT_GAUSSIANS, FIT_SIZE = 20_000, (320, 240)
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


def fitted_scene(sh_degree: int | None) -> Scene:
    """FIT_GAUSSIANS that cover FIT_SIZE at random depths, as a fit leaves them; one view."""
    generator = torch.Generator().manual_seed(0)
    (width, height), focal = FIT_SIZE, 280.0
    u, v, depth = torch.rand(3, FIT_GAUSSIANS, generator=generator)
    depth = 2 * torch.exp(1.5 * depth)
    x, y = (u - 0.5) * width / focal * depth, (v - 0.5) * height / focal * depth
    spacing = math.sqrt(width * height / FIT_GAUSSIANS) / focal
    spread = torch.exp(0.5 * torch.randn(FIT_GAUSSIANS, 3, generator=generator))
    if sh_degree is None:
        colors = torch.rand(FIT_GAUSSIANS, 3, generator=generator)
    else:
        colors = 0.2 * torch.randn(FIT_GAUSSIANS, (sh_degree + 1) ** 2, 3, generator=generator)
    return Scene(
        torch.stack([x, y, depth], -1),
        torch.randn(FIT_GAUSSIANS, 4, generator=generator),
        spacing * depth[:, None] * spread,
        0.1 + 0.85 * torch.rand(FIT_GAUSSIANS, generator=generator),
        colors,
        torch.eye(4)[None],
        torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]]),
    )


def measure_step(
    sh_degree: int | None, instruction_set: str, threads: int, seconds: float
) -> dict[str, object]:
    """One row of the second table, in a process of its own."""
    os.environ[INSTRUCTION_SET_VARIABLE] = instruction_set
    torch.set_num_threads(threads)
    scene = fitted_scene(sh_degree)
    width, height = FIT_SIZE
    leaves = [t.clone().requires_grad_() for t in scene[:5]]
    upstream = torch.rand(1, height, width, 3)
    coarse = torch.rand(1, 3, height // 8, width // 8)
    target = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")

    def render(*gaussians: Tensor) -> Tensor:
        return rasterize(
            *gaussians,
            viewmats=scene.viewmats,
            Ks=scene.Ks,
            width=width,
            height=height,
            sh_degree=sh_degree,
            engine="cpu",
        ).image

    def own() -> None:
        torch.autograd.grad(render(*leaves), leaves, upstream)

    raw = [scene.means, scene.quats, scene.scales.log(), scene.opacities.logit()]
    # Degree 0 apart from the others, which learn more slowly.
    raw += [scene.colors] if sh_degree is None else [scene.colors[:, :1], scene.colors[:, 1:]]
    raw = [t.clone().requires_grad_() for t in raw]
    adam = torch.optim.Adam(raw, lr=1e-6, eps=1e-15, fused=True)
    image = torch.rand(1, height, width, 3, requires_grad=True)

    def compare(image: Tensor) -> None:
        l1_ssim(image.movedim(-1, 1), target).sum().backward()

    def step() -> None:
        means, quats, scales, opacities, *colors = raw
        adam.zero_grad()
        joined = colors[0] if sh_degree is None else torch.cat(colors, 1)
        compare(render(means, quats, scales.exp(), opacities.sigmoid(), joined))
        adam.step()

    parts = {"own": own, "step": step, "loss": lambda: compare(image), "adam": adam.step}
    times = medians_in_turn_ms(parts, seconds)
    return {
        "sh_degree": sh_degree,
        "instruction_set": instruction_set,
        "threads": threads,
        **{f"{name}_ms": value for name, value in times.items()},
        "step_of_own": times["step"] / times["own"],
    }


def medians_in_turn_ms(
    parts: Mapping[str, Callable[[], object]], seconds: float
) -> dict[str, float]:
    """Median time of each part; one after the other in turn, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for part in parts.values():
        part()  # warms up
    while min(map(len, times.values())) < 5 or sum(map(sum, times.values())) < seconds * len(parts):
        for name, part in parts.items():
            begin = time.perf_counter()
            part()
            times[name].append(time.perf_counter() - begin)
    return {name: 1e3 * statistics.median(found) for name, found in times.items()}


def median_ms(run: Callable[[], object], device: str, seconds: float) -> float:
    """Median time over at least three runs, and as many as fit into ``seconds``."""
    times: list[float] = []
    run()  # warms up
    while len(times) < 3 or sum(times) < seconds:
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


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

    row = {
        "engine": engine,
        "device": device,
        "instruction_set": instruction_set,
        "gaussians": len(scene[0]),
        "side": side,
        "threads": threads,
        "forward_ms": median_ms(inference, device, seconds),
        "forward_backward_ms": median_ms(forward_backward, device, seconds),
    }
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
    flops_per_ms = 2 * 1024**3 / median_ms(lambda: matrix @ matrix, "cpu", 0.5)
    return pairs.sum().item() * FLOPS_PER_PAIR / flops_per_ms


def processor_name() -> str:
    """Model name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
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
    rows = []
    for side in args.sides:
        floors = {t: in_new_process(floor_ms, side, t) for t in args.threads}
        alone: dict[int, float] = {}
        for engine, device, threads, instruction_set in jobs:
            row = in_new_process(
                measure, engine, device, side, threads, args.seconds, instruction_set
            )
            assert isinstance(row, dict)
            if engine == "projection":
                alone[threads] = row["forward_backward_ms"]
            if device == "cpu":
                row["floor_ms"] = floors[threads]
                if threads in alone:
                    row["of_projection"] = row["forward_backward_ms"] / alone[threads]
            rows.append(row)
            print(_line(row), flush=True)
    steps = steps_of_a_fit(args.instruction_sets, args.threads, args.seconds)
    if args.json:
        results = {"machine": machine, "results": rows, "steps": steps}
        Path(args.json).write_text(json.dumps(results, indent=2))


def steps_of_a_fit(sets: list[str], threads: list[int], seconds: float) -> list[dict]:
    """Print the second table, and return its rows."""
    width, height = FIT_SIZE
    print(f"\nstep of a fit, {FIT_GAUSSIANS:,} @ {width}x{height}")
    print(f"{'':<18}{'threads':>8}{'rasterizer':>12}{'loss':>8}{'Adam':>8}{'step':>8}", end="")
    print(f"{'x rasterizer':>14}")
    rows = []
    for sh_degree in (None, 3):
        for count in threads:
            for instruction_set in sets:
                row = in_new_process(measure_step, sh_degree, instruction_set, count, seconds)
                assert isinstance(row, dict)
                rows.append(row)
                kind = "RGB" if sh_degree is None else f"SH {sh_degree}"
                print(
                    f"{kind + ' ' + instruction_set:<18}{count:>8}{row['own_ms']:>12.2f}"
                    f"{row['loss_ms']:>8.2f}{row['adam_ms']:>8.2f}{row['step_ms']:>8.2f}"
                    f"{row['step_of_own']:>14.2f}",
                    flush=True,
                )
    return rows


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
