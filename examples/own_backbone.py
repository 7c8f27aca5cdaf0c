"""A diffusion transformer of your own: a diffusers folder and a card make it a backbone.

    python examples/own_backbone.py --like wan --blocks 12 --out my-wan   # a GPU
    python examples/own_backbone.py                                       # a laptop

Yours comes from your own training, by ``pipeline.save_pretrained``. Here it is a copy of another
one with fewer blocks, so that there is something to load.
"""

import argparse
import json
from pathlib import Path

import torch

from mmdiff_video import load_backbone

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--like", default="nano-wan", help="a Wan model (default: nano-wan)")
parser.add_argument("--blocks", type=int, default=3, help="of the transformer (default: 3)")
parser.add_argument("--out", type=Path, default=Path("my-wan"), help="(default: my-wan)")
args = parser.parse_args()

# 1. a pipeline of diffusers, saved as every pipeline is
like = load_backbone(args.like)
pipeline = like.pipeline
old = pipeline.transformer
new = type(old).from_config({**old.config, "num_layers": args.blocks})
new.load_state_dict(old.state_dict(), strict=False)  # the first blocks' weights
pipeline.register_modules(transformer=new)
pipeline.save_pretrained(args.out)

# 2. its card: what it is meant to run on, and how it is read unless one says otherwise
card = {
    "untrained": like.untrained,  # so that every result says so
    "scale": "laptop",  # or gpu: which of the shipped configs suits what reads it
    "defaults": {
        "taps": [f"block.{args.blocks // 2}", f"block.{args.blocks - 1}"],
        "timesteps": [0.6, 0.2],
        "prompt": "A video of a real place.",
        "guidance": 5.0,
        "extract_guidance": None,
        "steps": 20,
        "text_tokens": 64,
        "height": 64,
        "width": 64,
        "frames": 5,
    },
}
(args.out / "mmdiff.json").write_text(json.dumps(card, indent=2))

# 3. every command takes the folder where it takes a name: --backbone ./my-wan
device = "cuda" if torch.cuda.is_available() else "cpu"
backbone = load_backbone(str(args.out), device=device)
size = backbone.defaults
clip = torch.rand(1, 3, size.frames, size.height, size.width, device=device)
features = backbone.extract(clip, keys=["noise"])
for tap, maps in features.maps.items():
    print(f"{tap}: {list(maps.shape)}")
