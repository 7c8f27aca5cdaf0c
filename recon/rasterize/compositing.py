"""Front-to-back compositing of projected Gaussians over small image tiles, in plain PyTorch.

Every tile gets the depth-sorted list of the Gaussians that can reach one of its pixels. A segment
of the lists of many tiles of similar length is padded into one dense block [n, rows, columns, K];
running products along K replace the loop over Gaussians. The backward pass computes the blocks
anew, last one first, so memory is bounded by the lists and one block. K is the innermost dimension
because CPUs vectorise along it and segments are longer than tiles are wide.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recon.rasterize.checks import check_memory
from recon.rasterize.projection import ALPHA_MIN

ALPHA_MAX = 0.999
# A Gaussian that would leave no more light than this ends the pixel and is not blended itself.
TRANSMITTANCE_MIN = 1e-4

# Standard deviations, at which nothing is left of a Gaussian.
FAR = 1e6

# Both were measured (benchmarks/rasterizer.py): small tiles waste few pixels on small Gaussians;
# a block must drown Python's overhead and still fit a CPU's cache.
TILE = 4
BLOCK_VALUES = 2**18
# Lists are worked off in segments of this length; tiles whose pixels have all ended drop out.
SEGMENT = 128


class TileLists(NamedTuple):
    """Which Gaussians to blend, and in which order, in every tile that has any."""

    members: Tensor
    """[L] indices of Gaussians, tile after tile, nearest first within a tile."""
    tiles: Tensor
    """[n] tile numbers (row-major over the image), longest list first."""
    starts: Tensor
    """[n] where each tile's list begins in ``members``."""
    counts: Tensor
    """[n] length of each tile's list."""

    def members_of(self, rows: Tensor, begin: int, nothing: int) -> Tensor:
        """A segment of some tiles' lists [n, K], filled up with the index ``nothing``."""
        lengths = (self.counts[rows] - begin).clamp(max=SEGMENT)
        rank = torch.arange(int(lengths.max()), device=rows.device)
        entries = (self.starts[rows, None] + begin + rank).clamp(max=len(self.members) - 1)
        members = _take(self.members, 0, entries)
        return members.masked_fill(rank >= lengths[:, None], nothing)


def tile_grid(width: int, height: int, tile: int) -> tuple[int, int]:
    """Rows and columns of tiles that cover the image."""
    return -(-height // tile), -(-width // tile)


def list_tiles(boxes: Tensor, width: int, height: int, tile: int = TILE) -> TileLists:
    """Sort Gaussians with pixel boxes [M, 4] (first and last column and row), nearest first."""
    _, tiles_across = tile_grid(width, height, tile)
    left, right, top, bottom = (boxes // tile).unbind(-1)
    columns = right - left + 1
    touched = columns * (bottom - top + 1)
    pairs = int(touched.sum())
    if pairs > 2**24:  # asking the system takes a while
        check_memory(f"{pairs} pairs of a Gaussian and a tile", 40 * pairs, boxes.device)
    members = torch.repeat_interleave(touched, output_size=pairs)  # [L]
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
    factors: Tensor,
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
        means2d: [M, 2] pixels, float64 lest needles lose digits.
        factors: [M, 3] of the inverse 2D covariances, from :func:`.projection.whiten`.
        opacities: [M], all >= 1/255.
        features: [M, F]; blending is done in their dtype.
        lists: from :func:`list_tiles` with the same image size and tile.
        width: image width in pixels.
        height: image height in pixels.
        tile: side of a tile in pixels.
        block_values: pixel-Gaussian pairs to work on at a time.

    Returns:
        feature sums weighted by what reaches the camera [height, width, F], and the sum of those
        weights [height, width].
    """
    sums, hidden = _Composite.apply(
        means2d, factors, opacities, features, lists, width, height, tile, block_values
    )  # [tiles, tile * tile, F], [tiles, tile * tile]
    down, across = tile_grid(width, height, tile)
    sums = sums.reshape(down, across, tile, tile, -1).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    hidden = hidden.reshape(down, across, tile, tile).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return sums[:height, :width], hidden[:height, :width]


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means2d, factors, opacities, features, lists, width, height, tile, block_values
    ):
        table, padded_features = _pad(means2d, factors, opacities, features)
        down, across = tile_grid(width, height, tile)
        sums = features.new_zeros(down * across, tile * tile, features.shape[1])
        # Not 1 - left: that has lost the digits that the expected depth, a ratio, needs where
        # little is blended.
        hidden = features.new_zeros(down * across, tile * tile)
        left = torch.ones_like(hidden)
        # The transmittance as if no pixel ended early: one has ended where this is at the limit.
        through = left.clone()
        visits = []
        longest = int(lists.counts[0]) if len(lists.counts) else 0
        for begin in range(0, longest, SEGMENT):
            lit = (through > TRANSMITTANCE_MIN).any(1)
            rows = (lit[lists.tiles] & (lists.counts > begin)).nonzero()[:, 0]
            for block in _blocks(lists, rows, begin, block_values // tile**2):
                tiles, members = lists.tiles[block], lists.members_of(block, begin, len(means2d))
                entering = through[tiles]
                visits.append((block, begin, entering))
                footprints = _Footprints(_take(table, 1, members), tiles, across, tile, left.dtype)
                alphas = footprints.alphas
                weights, chain, blended = _weights(alphas.clamp_(max=ALPHA_MAX), entering)
                sums[tiles] += torch.bmm(weights, _take(padded_features, 0, members))
                hidden[tiles] += weights.sum(-1)
                through[tiles] = chain[..., -1]
                last = chain.gather(-1, blended.sum(-1, keepdim=True).long())[..., 0]
                left[tiles] = torch.where(entering > TRANSMITTANCE_MIN, last, left[tiles])
        ctx.save_for_backward(means2d, factors, opacities, features, left)
        ctx.retrace = lists, visits, across, tile
        return sums, hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor, grad_hidden: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        means2d, factors, opacities, features, left = ctx.saved_tensors
        lists, visits, across, tile = ctx.retrace
        table, padded_features = _pad(means2d, factors, opacities, features)
        moments = table.new_zeros(len(means2d) + 1, 6)
        grad_features = torch.zeros_like(padded_features)
        # What everything behind the current block contributes to the loss, per pixel.
        beyond = -left * grad_hidden
        for block, begin, entering in reversed(visits):
            tiles, members = lists.tiles[block], lists.members_of(block, begin, len(means2d))
            footprints = _Footprints(_take(table, 1, members), tiles, across, tile, left.dtype)
            unclamped = footprints.alphas
            alphas = unclamped.clamp(max=ALPHA_MAX)
            weights, chain, blended = _weights(alphas, entering)
            grad_pixels = grad_sums[tiles]  # [n, P, F]
            grad_members = torch.bmm(weights.transpose(1, 2), grad_pixels)  # [n, K, F]
            grad_features.index_add_(0, members.flatten(), grad_members.flatten(0, 1))

            # More alpha here shows more of this Gaussian and dims all that lies behind it.
            values = _take(padded_features, 0, members)  # [n, K, F]
            worth = torch.bmm(grad_pixels, values.transpose(1, 2))  # [n, P, K]
            gains = torch.cat([weights * worth, beyond[tiles][..., None]], -1)
            behind = gains.flip(-1).cumsum(-1).flip(-1)  # [n, P, K + 1]
            beyond[tiles] = behind[..., 0]
            grad_alphas = worth.mul_(chain[..., :-1]).sub_(behind[..., 1:] / (1 - alphas))
            movable = torch.le(unclamped, ALPHA_MAX, out=alphas)
            flow = grad_alphas.mul_(unclamped).mul_(blended).mul_(movable)
            parts = footprints.moments(flow).to(moments.dtype).flatten(0, 1)
            moments.index_add_(0, members.flatten(), parts)
        total, u, w, uu, uw, ww = moments[:-1].unbind(-1)
        ux, uy, wy = factors.unbind(-1)
        # The flow times the derivatives of log alpha = log opacity - (u^2 + w^2) / 2, where
        # dy = w / wy and dx = (u - uy dy) / ux.
        return (
            torch.stack([-ux * u, -(uy * u + wy * w)], -1),
            torch.stack([(uw * uy / wy - uu) / ux, -uw / wy, -ww / wy], -1),
            (total / opacities).to(opacities.dtype),
            grad_features[:-1],
            *[None] * 5,
        )


def _pad(means2d: Tensor, factors: Tensor, opacities: Tensor, features: Tensor):
    """Add an invisible Gaussian M; table [6, M + 1] of x, y, ux, uy, wy, log opacity."""
    # Capped, lest an opacity far beyond 1 overflows and infinity times 0 be met on the way back.
    logs = opacities.to(means2d.dtype).log().clamp(max=40)
    table = torch.cat([means2d, factors, logs[:, None]], 1)
    nothing = table.new_tensor([[0, 0, 0, 0, 0, -torch.inf]])
    table = torch.cat([table, nothing]).T.contiguous()
    return table, torch.cat([features, features.new_zeros(1, features.shape[1])])


def _blocks(lists: TileLists, rows: Tensor, begin: int, pairs: int) -> Iterator[Tensor]:
    """Cut ``rows`` of the lists into blocks of at most ``pairs`` members from ``begin`` on."""
    lengths = (lists.counts[rows] - begin).clamp(max=SEGMENT).tolist()
    first = 0
    while first < len(lengths):
        end = first + max(1, pairs // lengths[first])
        yield rows[first:end]
        first = end


def _take(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Index one dimension by [n, K]; on CPUs several times faster than ``tensor[index]``."""
    return tensor.index_select(dim, index.flatten()).unflatten(dim, index.shape)


def _weights(alphas: Tensor, entering: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Blend one segment into pixels that light has reached with transmittance ``entering`` [n, P].

    Returns blending weights [n, P, K]; the transmittance before the first and after every Gaussian
    [n, P, K + 1], ended pixels included; and 1 where a Gaussian comes before the end of its pixel,
    else 0 [n, P, K]. The transmittance falls monotonically, so falling to the limit ends a pixel
    for good.
    """
    chain = torch.cat([entering[..., None], 1 - alphas], -1).cumprod(-1)
    # Comparing into a float tensor is several times faster on CPUs than masking with booleans.
    blended = torch.gt(chain[..., 1:], TRANSMITTANCE_MIN, out=torch.empty_like(alphas))
    return (alphas * chain[..., :-1]).mul_(blended), chain, blended


class _Footprints:
    """The Gaussians of one block over the pixels of their tiles, and the derivative of that."""

    def __init__(self, values: Tensor, tiles: Tensor, across: int, tile: int, dtype: torch.dtype):
        """Evaluate ``values`` [6, n, K] (rows of the table) over the tiles [n]."""
        x, y, ux, uy, wy, log_opacity = values
        # From the middle of the tile, u and w are small wherever alpha is not 0, so that ``dtype``
        # holds them well, however long a needle and however far its centre.
        dy = y - (tiles // across * tile + tile / 2)[:, None]
        dx = x - (tiles % across * tile + tile / 2)[:, None]
        # Bounded, lest a square overflows and 0 times infinity be met on the way back.
        u, w = (ux * dx + uy * dy).clamp(-FAR, FAR), (wy * dy).clamp(-FAR, FAR)
        u, w, ux, uy, wy, log_opacity = torch.stack([u, w, ux, uy, wy, log_opacity]).to(dtype)
        offsets = (torch.arange(tile, dtype=dtype, device=x.device) - (tile - 1) / 2)[:, None]
        w = w[:, None] - wy[:, None] * offsets  # [n, rows, K]
        along_x = u[:, None] - ux[:, None] * offsets  # [n, columns, K]
        u = along_x[:, None] - (uy[:, None] * offsets)[:, :, None]  # [n, rows, columns, K]
        of_row = torch.addcmul(log_opacity[:, None], w, w, value=-0.5)
        alphas = torch.addcmul(of_row[:, :, None], u, u, value=-0.5).exp_()
        alphas *= torch.ge(alphas, ALPHA_MIN, out=torch.empty_like(alphas))
        self.u, self.w = u, w
        self.alphas = alphas.flatten(1, 2)
        """[n, P, K] opacity times falloff, 0 below 1/255, not yet clamped."""

    def moments(self, flow: Tensor) -> Tensor:
        """Sum ``flow`` [n, P, K], d loss / d log alpha, over the pixels: [n, K, 6].

        As it is, and times u, w, u^2, u w and w^2, which are of the order of 1 where it is not 0:
        moments in pixels would cancel when they are turned into gradients of a needle.
        """
        flow = flow.view(self.u.shape)
        by_u = flow * self.u
        one, u = flow.sum(2), by_u.sum(2)  # [n, rows, K]
        uu = by_u.mul_(self.u).sum((1, 2))
        one_w = one * self.w
        return torch.stack(
            [
                one.sum(1),
                u.sum(1),
                one_w.sum(1),
                uu,
                (u * self.w).sum(1),
                (one_w * self.w).sum(1),
            ],
            -1,
        )
