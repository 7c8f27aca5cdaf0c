"""What a frozen diffusion transformer sees in a picture: its features, drawn as colours.

python examples/features_of_a_picture.py photo.jpg --backbone flux --size 1024   # a GPU
python examples/features_of_a_picture.py photo.jpg                               # a laptop
"""

import argparse

import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image, to_tensor

from mmdiff_video import load_backbone

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("picture", help="any picture file")
parser.add_argument("--backbone", default="nano-flux", help="(default: nano-flux)")
parser.add_argument("--size", type=int, default=256, help="pixels of a side (default: 256)")
parser.add_argument("--out", default="features.png", help="(default: features.png)")
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
backbone = load_backbone(args.backbone, device=device)

# a picture is a clip of one frame: [B, 3, F, H, W] in [0, 1]
picture = Image.open(args.picture).convert("RGB").resize((args.size, args.size))
video = to_tensor(picture)[None, :, None].to(device)
features = backbone.extract(video, "a photo", keys=["my picture"])

for tap, maps in features.maps.items():
    print(f"{tap}: [B, T, C, F, H, W] = {list(maps.shape)}, t = {features.timesteps}")

# the three directions in which the last tap's channels vary most, as red, green and blue
*_, maps = features.maps.values()
pixels = maps[0, 0, :, 0].float().flatten(1).T  # [H * W, C] at the first timestep
_, _, directions = torch.pca_lowrank(pixels, q=3, niter=8)
colors = (pixels - pixels.mean(0)) @ directions
colors = (colors - colors.amin(0)) / (colors.amax(0) - colors.amin(0)).clamp_min(1e-6)
image = to_pil_image(colors.T.reshape(3, *maps.shape[-2:]).cpu())
image.resize((args.size, args.size), Image.Resampling.NEAREST).save(args.out)
print(args.out)
