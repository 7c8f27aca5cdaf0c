"""From a posed clip to 3D Gaussians in a .ply, which any viewer of splats opens.

python examples/clip_to_gaussians.py --run runs/wan --out scene.ply   # a GPU, a trained run
python examples/clip_to_gaussians.py --steps 300                      # a laptop, from nothing
"""

import argparse
from pathlib import Path

from mmdiff_video import Reconstructor
from mmdiff_video.datasets.clips.views import NVSSample
from mmdiff_video.nvs.evaluate import evaluation_set
from mmdiff_video.nvs.setup import resolve_config
from mmdiff_video.nvs.train import train_3dgs
from recon import save_ply

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument(
    "--run", type=Path, help="a run of train-3dgs (default: one is trained on rooms, in --train)"
)
parser.add_argument(
    "--train", type=Path, default=Path("runs/example"), help="(default: runs/example)"
)
parser.add_argument("--steps", type=int, default=300, help="steps of that training (default: 300)")
parser.add_argument("--out", type=Path, default=Path("scene.ply"), help="(default: scene.ply)")
parser.add_argument(
    "settings", nargs="*", metavar="key=value", help="other settings of the training"
)


def main() -> None:
    args = parser.parse_args()
    run = args.run
    if run is None:
        run = args.train
        # the small set of procedural rooms that is made on the spot, and the config for a laptop
        config = resolve_config("3dgs-nano", [f"train.steps={args.steps}", *args.settings])
        train_3dgs(config, run, resume=(run / "metrics.jsonl").exists())
    reconstructor = Reconstructor.from_run(run)

    # a held-out clip; of your own, these three tensors are all that is needed
    samples, _, _ = evaluation_set(reconstructor.setup, "test")
    clip = next(sample for sample in samples if isinstance(sample, NVSSample))  # not a broken one
    images = clip.video.movedim(1, 0)  # [F, 3, H, W] in [0, 1]
    Ks, viewmats = clip.input_Ks, clip.input_viewmats  # pixels; world-to-camera, OpenCV axes

    gaussians = reconstructor.predict(images, Ks, viewmats)
    save_ply(args.out, gaussians)
    print(f"{args.out}: {gaussians.num} Gaussians")


if __name__ == "__main__":  # rooms are drawn in processes of their own
    main()
