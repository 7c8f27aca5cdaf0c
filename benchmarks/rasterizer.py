"""Time of one forward and backward pass of every rasterisation engine that works here.

    python benchmarks/rasterizer.py                  # a table; about half a minute on one core
    python benchmarks/rasterizer.py --json out.json  # the same figures for a machine

Scenes are random Gaussians of about 6 pixels that fill the picture, in float32, one view. Figures
are medians in milliseconds; threads are torch's (OMP_NUM_THREADS=1 for one core).
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from recon.rasterize import rasterize
from recon.rasterize.gsplat_engine import unavailable

SIZES = [(4096, 64, 64), (50_000, 128, 96), (65_536, 256, 256)]  # Gaussians, width, height


def random_scene(count: int, width: int, height: int, device: str) -> tuple[Tensor, ...]:
    """Means, quats, scales, opacities, colors, viewmats, Ks."""
    generator = torch.Generator().manual_seed(0)
    focal = float(width)
    depths = 2 + 4 * torch.rand(count, 1, generator=generator)
    pixels = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    pixels = pixels - torch.tensor([width, height]) / 2
    scene = (
        torch.cat([pixels / focal * depths, depths], 1),
        torch.randn(count, 4, generator=generator),
        (0.5 + torch.rand(count, 3, generator=generator)) * depths / focal,  # 0.5 to 1.5 pixels
        0.5 * torch.rand(count, generator=generator),
        torch.rand(count, 3, generator=generator),
        torch.eye(4)[None],
        torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]]),
    )
    return tuple(tensor.to(device) for tensor in scene)


def median_ms(run: Callable[[], object], device: str, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times[1:])  # the first pass warms up


def measure(engine: str, device: str, size: tuple[int, int, int], repeats: int) -> dict:
    count, width, height = size
    means, quats, scales, opacities, colors, viewmats, Ks = random_scene(
        count, width, height, device
    )
    gaussians = [t.requires_grad_() for t in (means, quats, scales, opacities, colors)]

    def forward() -> Tensor:
        rendered = rasterize(
            means, quats, scales, opacities, colors, viewmats, Ks, width, height, engine=engine
        )
        return rendered.image.square().sum() + rendered.depth.mean()

    def inference() -> None:
        with torch.no_grad():
            forward()

    return {
        "engine": engine,
        "device": device,
        "gaussians": count,
        "width": width,
        "height": height,
        "forward_ms": median_ms(inference, device, repeats),
        "forward_backward_ms": median_ms(
            lambda: torch.autograd.grad(forward(), gaussians), device, repeats
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--repeats", type=int, default=7, help="timed passes each (default 7)")
    args = parser.parse_args()

    engines = [("torch", "cpu")]
    if torch.cuda.is_available():
        engines.append(("torch", "cuda"))
        if (reason := unavailable()) is None:
            engines.append(("gsplat", "cuda"))
        else:
            print(f"gsplat left out: {reason}")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{'engine':<16}{'scene':<20}{'forward ms':>12}{'+ backward ms':>15}")
    rows = []
    for engine, device in engines:
        for size in SIZES:
            row = measure(engine, device, size, args.repeats)
            rows.append(row)
            scene = f"{row['gaussians']} @ {row['width']}x{row['height']}"
            print(
                f"{engine + ' ' + device:<16}{scene:<20}{row['forward_ms']:>12.1f}"
                f"{row['forward_backward_ms']:>15.1f}",
                flush=True,
            )
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": machine, "results": rows}, file, indent=2)


if __name__ == "__main__":
    main()
