"""How closely the rasterisation engines that work here agree, on the scenes of rasterizer.py.

    python benchmarks/agreement.py                  # seconds, on a GPU or on two cores

Every engine renders the same scene from one view in float32, with gradients of one loss. Of two
engines the table gives the mean and the largest difference of image, depth and alpha, and the
relative difference of each gradient, ||a - b|| / ||b||. Rounding near 1/255 of opacity or 1e-4 of
transmittance makes one engine blend a Gaussian into a pixel and another not: the largest
differences come from there.
"""

import argparse
import itertools
from pathlib import Path

import torch
from figures import Figure, processor_name, write_report
from rasterizer import pixel_aligned_scene
from torch import Tensor

from recon.rasterize import auto_engine, rasterize
from recon.rasterize.gsplat_engine import unavailable

SIDES = (64, 256, 512)
MAPS = ("image", "depth", "alpha")
LEAVES = ("means", "quats", "scales", "opacities", "colors", "viewmats")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sides", nargs="+", type=int, default=SIDES, help="of the image")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    engines = [("cpu", "cpu"), ("torch", "cpu")]
    print(f"processor: {processor_name()}\ncpu engine: {auto_engine('cpu').why}")
    if torch.cuda.is_available():
        print(f"gpu: {torch.cuda.get_device_name()}")
        engines[1] = ("torch", "cuda")
        if (reason := unavailable()) is None:
            engines.append(("gsplat", "cuda"))
        else:
            print(f"gsplat left out: {reason}")
    print(f"torch: {torch.__version__}")
    figures: list[Figure] = []
    for side in args.sides:
        rendered = {engine: render(engine, device, side) for engine, device in engines}
        for a, b in itertools.combinations(rendered, 2):
            title = f"{(side // 2) ** 2 * 4:,} @ {side}x{side}, {a} and {b}"
            print(f"\n{title}")
            for name in MAPS:
                apart = (rendered[a][name] - rendered[b][name]).abs()
                mean, largest = float(apart.mean()), float(apart.max())
                figures += [
                    Figure(name=f"{title}, {name}, mean", value=mean),
                    Figure(name=f"{title}, {name}, largest", value=largest),
                ]
                print(f"  {name:9} mean {mean:.1e}  largest {largest:.1e}")
            for name in LEAVES:
                ours, theirs = rendered[a][f"d {name}"], rendered[b][f"d {name}"]
                relative = float((ours - theirs).norm() / theirs.norm())
                figures.append(Figure(name=f"{title}, d {name}, relative", value=relative))
                print(f"  d {name:9} {relative:.1e}")
    if args.json:
        write_report(args.json, "agreement", figures, None)


def render(engine: str, device: str, side: int) -> dict[str, Tensor]:
    """Render the scene and differentiate a sum of all maps; everything ends on the CPU."""
    scene = {k: t.requires_grad_() for k, t in pixel_aligned_scene(side, device)._asdict().items()}
    rendered = rasterize(
        **scene,
        width=side,
        height=side,
        backgrounds=torch.ones(3, device=device),
        engine=engine,
    )
    maps = {name: getattr(rendered, name) for name in MAPS}
    weights = torch.rand(rendered.image.shape, generator=torch.Generator().manual_seed(1))
    image, depth, alpha = rendered
    loss = (image * weights.to(device)).sum() + 0.1 * (depth.sum() + alpha.sum())
    gradients = torch.autograd.grad(loss, [scene[name] for name in LEAVES])
    named = zip((f"d {name}" for name in LEAVES), gradients, strict=True)
    return {name: t.detach().cpu() for name, t in (*maps.items(), *named)}


if __name__ == "__main__":
    main()
