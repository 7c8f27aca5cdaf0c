"""Front-to-back compositing of projected Gaussians over small image tiles, in plain PyTorch.

Every tile gets the depth-sorted list of the Gaussians that can reach one of its pixels. Tiles with
lists of similar length are padded into one dense block [n, rows, columns, K]; running products
along K then replace the loop over Gaussians. The backward pass computes each block anew, so memory
is bounded by the lists and one block. K is the innermost dimension because CPUs vectorise along
it and lists are longer than tiles are wide.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .projection import ALPHA_MIN

ALPHA_MAX = 0.999
# A Gaussian that would leave no more light than this ends the pixel and is not drawn itself.
TRANSMITTANCE_MIN = 1e-4

# Both were measured (benchmarks/rasterizer.py): small tiles waste few pixels on small Gaussians;
# a block must drown Python's overhead and still fit a CPU's cache.
TILE = 4
BLOCK_VALUES = 2**18


class TileLists(NamedTuple):
    """Which Gaussians to draw, and in which order, in every tile that has any."""

    members: Tensor
    """[L] indices of Gaussians, tile after tile, nearest first within a tile."""
    tiles: Tensor
    """[n] tile numbers (row-major over the image), longest list first."""
    starts: Tensor
    """[n] where each tile's list begins in ``members``."""
    counts: Tensor
    """[n] length of each tile's list."""


def tile_grid(width: int, height: int, tile: int) -> tuple[int, int]:
    """Rows and columns of tiles that cover the image."""
    return -(-height // tile), -(-width // tile)


def list_tiles(boxes: Tensor, width: int, height: int, tile: int = TILE) -> TileLists:
    """Sort Gaussians with pixel boxes [M, 4] (first and last column and row), nearest first."""
    _, tiles_across = tile_grid(width, height, tile)
    left, right, top, bottom = (boxes // tile).unbind(-1)
    columns = right - left + 1
    touched = columns * (bottom - top + 1)
    members = torch.repeat_interleave(touched)  # [L]
    begins = touched.cumsum(0) - touched
    offset = torch.arange(len(members), device=boxes.device) - begins[members]
    tiles = (top[members] + offset // columns[members]) * tiles_across
    tiles += left[members] + offset % columns[members]
    tiles, order = torch.sort(tiles, stable=True)  # keeps nearest first within a tile
    tiles, counts = torch.unique_consecutive(tiles, return_counts=True)
    starts = counts.cumsum(0) - counts
    longest_first = torch.argsort(counts, descending=True, stable=True)
    return TileLists(
        members[order], tiles[longest_first], starts[longest_first], counts[longest_first]
    )


def composite(
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    features: Tensor,
    lists: TileLists,
    width: int,
    height: int,
    tile: int = TILE,
    block_values: int = BLOCK_VALUES,
) -> tuple[Tensor, Tensor]:
    """Composite M projected Gaussians with F features each. Differentiable in the first four.

    Args:
        means2d: [M, 2] pixels.
        conics: [M, 3] inverse 2D covariances (xx, xy, yy).
        opacities: [M], all >= 1/255.
        features: [M, F].
        lists: from :func:`list_tiles` with the same image size and tile.
        width: image width in pixels.
        height: image height in pixels.
        tile: side of a tile in pixels.
        block_values: pixel-Gaussian pairs to work on at a time.

    Returns:
        feature sums weighted by what reaches the camera [height, width, F], and the transmittance
        that is left [height, width].
    """
    sums, left = _Composite.apply(
        means2d, conics, opacities, features, lists, width, height, tile, block_values
    )  # [tiles, tile * tile, F], [tiles, tile * tile]
    down, across = tile_grid(width, height, tile)
    sums = sums.reshape(down, across, tile, tile, -1).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    left = left.reshape(down, across, tile, tile).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return sums[:height, :width], left[:height, :width]


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means2d, conics, opacities, features, lists, width, height, tile, block_values
    ):
        ctx.save_for_backward(means2d, conics, opacities, features)
        ctx.layout = lists, width, height, tile, block_values
        table, padded_features = _pad(means2d, conics, opacities, features)
        down, across = tile_grid(width, height, tile)
        sums = features.new_zeros(down * across, tile * tile, features.shape[1])
        left = features.new_ones(down * across, tile * tile)
        for tiles, members in _blocks(lists, len(means2d), tile, block_values):
            alphas = _Footprints(_take(table, 1, members), tiles, across, tile).alphas
            weights, _, sight = _weights(alphas.clamp_(max=ALPHA_MAX))
            sums[tiles] = torch.bmm(weights, _take(padded_features, 0, members))
            left[tiles] = sight
        return sums, left

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor, grad_left: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        means2d, conics, opacities, features = ctx.saved_tensors
        lists, width, height, tile, block_values = ctx.layout
        table, padded_features = _pad(means2d, conics, opacities, features)
        _, across = tile_grid(width, height, tile)
        grads = table.new_zeros(len(means2d) + 1, 6)
        grad_features = torch.zeros_like(padded_features)
        for tiles, members in _blocks(lists, len(means2d), tile, block_values):
            footprints = _Footprints(_take(table, 1, members), tiles, across, tile)
            unclamped = footprints.alphas
            alphas = unclamped.clamp(max=ALPHA_MAX)
            weights, before, sight = _weights(alphas)
            grad_pixels = grad_sums[tiles]  # [n, P, F]
            grad_members = torch.bmm(weights.transpose(1, 2), grad_pixels)  # [n, K, F]
            grad_features.index_add_(0, members.flatten(), grad_members.flatten(0, 1))

            # More alpha here shows more of this Gaussian and dims all that lies behind it.
            values = _take(padded_features, 0, members)  # [n, K, F]
            worth = torch.bmm(grad_pixels, values.transpose(1, 2))  # [n, P, K]
            behind = torch.zeros_like(worth)
            seen = weights[..., 1:] * worth[..., 1:]
            behind[..., :-1] = seen.flip(-1).cumsum(-1).flip(-1)
            behind += (sight * grad_left[tiles])[..., None]
            grad_alphas = before.mul_(worth).sub_(behind.div_(1 - alphas))
            drawn = torch.gt(weights, 0, out=behind)
            movable = torch.le(unclamped, ALPHA_MAX, out=worth)
            flow = grad_alphas.mul_(unclamped).mul_(drawn).mul_(movable)
            grads.index_add_(0, members.flatten(), footprints.pull_back(flow).flatten(0, 1))
        grads = grads[:-1]
        return (
            grads[:, :2],
            grads[:, 2:5],
            grads[:, 5] / opacities,
            grad_features[:-1],
            *[None] * 5,
        )


def _pad(means2d: Tensor, conics: Tensor, opacities: Tensor, features: Tensor):
    """Add an invisible Gaussian M; table [6, M + 1] of x, y, conic xx, xy, yy, log opacity."""
    table = torch.cat([means2d, conics, opacities.log()[:, None]], 1)
    nothing = table.new_tensor([[0, 0, 0, 0, 0, -torch.inf]])
    table = torch.cat([table, nothing]).T.contiguous()
    return table, torch.cat([features, features.new_zeros(1, features.shape[1])])


def _blocks(
    lists: TileLists, nothing: int, tile: int, block_values: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield tile numbers [n] and their members [n, K], short lists padded with ``nothing``."""
    counts = lists.counts.tolist()
    first = 0
    while first < len(counts):
        longest = counts[first]
        block = slice(first, first + max(1, block_values // (longest * tile * tile)))
        rank = torch.arange(longest, device=lists.members.device)
        entry = (lists.starts[block, None] + rank).clamp(max=len(lists.members) - 1)
        members = lists.members[entry]
        yield lists.tiles[block], members.masked_fill(rank >= lists.counts[block, None], nothing)
        first = block.stop


def _take(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Index one dimension by [n, K]; on CPUs several times faster than ``tensor[index]``."""
    return tensor.index_select(dim, index.flatten()).unflatten(dim, index.shape)


def _weights(alphas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Blending weights and the transmittance before each Gaussian [n, P, K], and after all [n, P].

    The transmittance falls monotonically, so comparing it with the limit stops a pixel for good.
    """
    after = torch.cumprod(1 - alphas, -1)
    before = torch.ones_like(after)
    before[..., 1:] = after[..., :-1]
    weights = alphas * before
    # Comparing into a float tensor is several times faster on CPUs than masking with booleans.
    drawn = torch.gt(after, TRANSMITTANCE_MIN, out=torch.empty_like(after))
    last = drawn.sum(-1, keepdim=True).long() - 1  # never -1: ALPHA_MAX leaves light behind one
    return weights.mul_(drawn), before, after.gather(-1, last)[..., 0]


class _Footprints:
    """The Gaussians of one block over the pixels of their tiles, and the derivative of that."""

    def __init__(self, values: Tensor, tiles: Tensor, across: int, tile: int):
        """Evaluate ``values`` [6, n, K] (rows of the table) over the tiles [n]."""
        x, y, self.xx, self.xy, self.yy, log_opacity = values
        centres = torch.arange(tile, dtype=x.dtype, device=x.device)[:, None] + 0.5  # [tile, 1]
        corner_x, corner_y = tiles % across * tile, tiles // across * tile
        # Gaussian minus pixel, relative to the tile so that large images lose no precision.
        self.dx = (x - corner_x[:, None])[:, None] - centres  # [n, columns, K]
        self.dy = (y - corner_y[:, None])[:, None] - centres  # [n, rows, K]
        along_x = 0.5 * self.xx[:, None] * self.dx**2
        along_y = 0.5 * self.yy[:, None] * self.dy**2
        across_xy = self.xy[:, None] * self.dy
        sigma = torch.addcmul(along_x[:, None], across_xy[:, :, None], self.dx[:, None])
        sigma += along_y[:, :, None]  # [n, rows, columns, K]
        kept = torch.ge(sigma, 0, out=torch.empty_like(sigma))
        alphas = torch.sub(log_opacity[:, None, None], sigma, out=sigma).exp_()
        alphas *= kept
        alphas *= torch.ge(alphas, ALPHA_MIN, out=kept)
        self.alphas = alphas.flatten(1, 2)
        """[n, P, K] opacity times falloff, 0 below 1/255, not yet clamped."""

    def pull_back(self, flow: Tensor) -> Tensor:
        """Turn ``flow`` [n, P, K], d loss / d log alpha, into gradients of the table [n, K, 6]."""
        flow = flow.view(len(flow), self.dy.shape[1], self.dx.shape[1], -1)
        columns, rows = flow.sum(1), flow.sum(2)  # [n, columns, K], [n, rows, K]
        by_x = columns * self.dx
        by_y = rows * self.dy
        x, y = by_x.sum(1), by_y.sum(1)  # moments of the flow about the mean, [n, K]
        xx, yy = (by_x * self.dx).sum(1), (by_y * self.dy).sum(1)
        xy = ((flow * self.dx[:, None]).sum(2) * self.dy).sum(1)
        return torch.stack(
            [
                -(self.xx * x + self.xy * y),
                -(self.xy * x + self.yy * y),
                -0.5 * xx,
                -xy,
                -0.5 * yy,
                columns.sum(1),
            ],
            -1,
        )
