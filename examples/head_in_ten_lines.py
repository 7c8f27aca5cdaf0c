"""A head of your own in ten lines: linear depth on aggregated features, learnt from drawn rooms.

python examples/head_in_ten_lines.py --backbone flux --rooms 64 --size 512 --steps 500   # a GPU
python examples/head_in_ten_lines.py                                                     # a laptop
"""

import argparse

import torch
from torch import nn

from mmdiff_video import build_aggregator, load_backbone
from mmdiff_video.rooms.furnishing import make_room
from mmdiff_video.rooms.pool import draw_rooms

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--backbone", default="nano-flux", help="(default: nano-flux)")
parser.add_argument("--rooms", type=int, default=16, help="pictures to learn from (default: 16)")
parser.add_argument("--size", type=int, default=128, help="pixels of a side (default: 128)")
parser.add_argument("--steps", type=int, default=100, help="of the optimiser (default: 100)")


def main() -> None:
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = load_backbone(args.backbone, device=device)

    rooms = [make_room("train", index) for index in range(args.rooms)]
    drawn = list(draw_rooms(rooms, frames=1, height=args.size, width=args.size))
    pictures = torch.stack([torch.from_numpy(room.rgb) for room in drawn])  # [B, 1, H, W, 3]
    video = pictures.permute(0, 4, 1, 2, 3).to(device).float() / 255
    keys = [f"room {index}" for index in range(args.rooms)]
    features = backbone.extract(video, [room.caption for room in drawn], keys=keys)
    depth = torch.stack([torch.from_numpy(room.depth) for room in drawn]).to(device)  # [B, 1, H, W]

    # the ten lines
    widths = {tap: maps.shape[2] for tap, maps in features.maps.items()}
    aggregator = build_aggregator(layers=widths, timesteps=features.timesteps, width=64).to(device)
    head = nn.Linear(64 * len(widths), 1).to(device)
    optimizer = torch.optim.AdamW([*aggregator.parameters(), *head.parameters()], lr=1e-3)
    height, width = next(iter(features.maps.values())).shape[-2:]
    target = nn.functional.adaptive_avg_pool2d(depth, (height, width))
    for step in range(args.steps):
        fused = torch.cat(list(aggregator(features.maps).values()), 1)  # [B, layers * 64, 1, h, w]
        loss = (head(fused.movedim(1, -1))[..., 0].exp() - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(args.steps // 10, 1) == 0 or step == args.steps - 1:
            print(f"step {step}: off by {loss.item():.3f} m on average")
    constant = (target - target.median()).abs().mean()
    print(f"one depth everywhere: off by {constant.item():.3f} m")


if __name__ == "__main__":  # rooms are drawn in processes of their own
    main()
