"""Latent video to 3D Gaussians, after Lyra (its latent-to-3DGS decoder).

The decoder takes any latent video: a VAE's latents or fused backbone features. One token stands
for a patch of latent cells; the Pluecker rays of the frames that it was made from are added; a
transformer reads all tokens of all frames at once; a transposed 3-D convolution turns every token
into Gaussians on the rays of its frames. Predictions are made in the first camera's frame, so that
a rigid change of the world moves the Gaussians and changes nothing else.

Two departures from Lyra. Its trunk is mostly bidirectional Mamba-2 with attention at two of sixteen
blocks; here every block is attention, which needs no custom kernel and fits the few thousand tokens
of a clip at these resolutions. It encodes rays with the video's own VAE; here they are sampled and
patchified in float32, so that features without a VAE are served alike.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.cameras import camera_rays, invert_rigid, pluecker_rays, relative_to_first
from recon.gaussians import Gaussians

DEEPEST = 1000
"""Layers of a trunk, at most: a number far beyond is a mistake that would take hours to build."""

CHANNELS = {"distance": 1, "rgb": 3, "scale": 3, "rotation": 4, "opacity": 1}
"""What the decoder predicts for each Gaussian, in the order of its output channels."""


@dataclass(frozen=True, kw_only=True)
class SceneSpace:
    """Where Gaussians may lie and how large they may be, in world units.

    Attributes:
        near, far: range of distances along a ray (Lyra: 0.1 and 500).
        scale_cap: largest standard deviation of a Gaussian (Lyra: 0.3).

    Raises:
        ValueError: not 0 < near < far, or a scale_cap that is not positive.
    """

    near: float
    far: float
    scale_cap: float

    def __post_init__(self) -> None:
        if not 0 < self.near < self.far:
            raise ValueError(f"need 0 < near < far, got near {self.near} and far {self.far}")
        if self.scale_cap <= 0:
            raise ValueError(f"scale_cap must be positive, not {self.scale_cap}")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Size of the decoder and number of Gaussians; the defaults are Lyra's.

    Attributes:
        width: channels of a token.
        depth: transformer blocks.
        heads: attention heads.
        mlp_ratio: width of the feed-forward layer over ``width``.
        dropout: on the output of both residual branches.
        output_time_stride: frames from one frame with Gaussians to the next; 1 is every frame.
        output_space_stride: pixels from one Gaussian to the next; 1 is every pixel.
        rays_per_token: rays sampled along each side of a token's cell, in every frame.

    Raises:
        ValueError: a number below 1, heads that do not divide the width, a dropout outside [0, 1).
    """

    width: int = 512
    depth: int = 16
    heads: int = 8
    mlp_ratio: int = 4
    dropout: float = 0.0
    output_time_stride: int = 1
    output_space_stride: int = 8
    rays_per_token: int = 4

    def __post_init__(self) -> None:
        for name in (
            "width",
            "depth",
            "heads",
            "mlp_ratio",
            "output_time_stride",
            "output_space_stride",
            "rays_per_token",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"decoder {name} must be at least 1, not {getattr(self, name)}")
        if self.depth > DEEPEST:
            raise ValueError(f"decoder depth must be at most {DEEPEST}, not {self.depth}")
        if self.width % self.heads:
            raise ValueError(
                f"decoder width {self.width} is not a multiple of its {self.heads} heads"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"decoder dropout must be in [0, 1), not {self.dropout}")


def gaussian_count(config: DecoderConfig, *, frames: int, height: int, width: int) -> int:
    """Count the Gaussians that a clip of this size in pixels is decoded to."""
    s = config.output_space_stride
    return ((frames - 1) // config.output_time_stride + 1) * (height // s) * (width // s)


class Block(nn.Module):
    """Pre-norm transformer block over all tokens of all frames: [B, N, width] in and out."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all tokens, then transform each."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, width / heads]
            for part in self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.out(attended))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class LatentTo3DGS(nn.Module):
    """Decode a latent video and its cameras to 3D Gaussians.

    Args:
        config: see :class:`DecoderConfig`.
        in_channels: channels C of the latent video.
        stride: (frames, pixel rows, pixel columns) per latent cell. The first latent frame stands
            for the first frame alone, every other one for ``stride[0]`` frames, so that F latent
            frames are (F - 1) * stride[0] + 1 frames. Wan's VAE: (4, 8, 8); features of its
            transformer: (4, 16, 16); an image backbone: 1 for the time.
        patch: latent cells per token along rows and columns.
        space: see :class:`SceneSpace`.

    The first forward of a fresh decoder yields about: distance near + 0.16 (far - near), opacity
    0.12, scale 0.37 ``scale_cap``, mid-grey colours, and rotations near that of the first camera;
    the rays have no influence yet, because their embedding starts at zero.

    Raises:
        ValueError: an output stride that does not divide the input's (or, in time, is not a
            multiple of it).
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        in_channels: int,
        stride: tuple[int, int, int],
        patch: int,
        space: SceneSpace,
    ):
        super().__init__()
        self.config = config
        self.space = space
        self.stride = stride
        self.patch = patch
        frames, rows, columns = stride[0], stride[1] * patch, stride[2] * patch
        out_time, out_space = config.output_time_stride, config.output_space_stride
        if frames % out_time and out_time % frames:
            raise ValueError(
                f"output_time_stride {out_time} must divide the latent's {frames} frames per cell"
                " or be a multiple of them"
            )
        if rows % out_space or columns % out_space:
            raise ValueError(
                f"output_space_stride {out_space} must divide a token's"
                f" {rows} x {columns} pixels (rows x columns)"
            )

        width, r = config.width, config.rays_per_token
        self.embed = nn.Linear(in_channels * patch**2, width)
        self.embed_norm = nn.LayerNorm(width)
        self.embed_rays = nn.Linear(frames * 6 * r**2, width)
        self.embed_rays_norm = nn.LayerNorm(width)
        nn.init.zeros_(self.embed_rays.weight)
        nn.init.zeros_(self.embed_rays.bias)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width)

        # An odd kernel, so that `up` output frames per latent frame but one for the first come out
        # centred: Lyra's 9 for 8, and 5 for Wan's 4.
        up = max(frames // out_time, 1)
        kernel = up if up % 2 else up + 1
        up_rows, up_columns = rows // out_space, columns // out_space
        self.head = nn.ConvTranspose3d(
            width,
            sum(CHANNELS.values()),
            (kernel, up_rows, up_columns),
            stride=(up, up_rows, up_columns),
            padding=(kernel // 2, 0, 0),
        )
        self._init_head()

    def _init_head(self) -> None:
        """Start near the activations' own offsets, with the rotation at the identity."""
        assert self.head.bias is not None
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        quaternion_w = CHANNELS["distance"] + CHANNELS["rgb"] + CHANNELS["scale"]
        with torch.no_grad():
            self.head.bias[quaternion_w] = 1.0

    def forward(
        self, latent: Tensor, viewmats: Tensor, Ks: Tensor, *, height: int, width: int
    ) -> Gaussians:
        """Decode.

        Args:
            latent: [B, C, F, h, w].
            viewmats: [B, N, 4, 4] world-to-camera of the N = (F - 1) * stride[0] + 1 input frames.
            Ks: [B, N, 3, 3] in pixels.
            height: of the frames, in pixels; ``h * stride[1]``.
            width: of the frames, in pixels; ``w * stride[2]``.

        Returns:
            Gaussians [B, G, ...] in the world of the viewmats, float32, G as
            :func:`gaussian_count`, in the order of frames, rows, columns.

        Raises:
            ValueError: shapes that do not belong together.
        """
        self._check(latent, viewmats, Ks, height, width)
        cameras = relative_to_first(viewmats)
        patches = self._patchify(latent)  # [B, F, rows, columns, C * patch^2]
        grid = patches.shape[1:4]
        x = self.embed_norm(self.embed(patches))
        with torch.autocast(latent.device.type, enabled=False):
            x = x + self.embed_rays_norm(
                self.embed_rays(self._token_rays(cameras, Ks, width, height, grid))
            )
        x = self.blocks(x.flatten(1, 3)).unflatten(1, grid)
        skip = max(self.config.output_time_stride // self.stride[0], 1)
        # Distances and sizes need more digits than bfloat16 has.
        with torch.autocast(latent.device.type, enabled=False):
            x = self.norm(x[:, ::skip].float()).movedim(-1, 1)
            raw = self.head(x).movedim(1, -1)  # [B, frames, rows, columns, 12]
            every = self.config.output_time_stride
            origins, directions = camera_rays(
                cameras[:, ::every], Ks[:, ::every], width, height, samples=raw.shape[2:4]
            )
            gaussians = activate(
                raw.flatten(1, 3), origins.flatten(1, 3), directions.flatten(1, 3), self.space
            )
            return gaussians.transform(invert_rigid(viewmats[:, 0].float()))

    def _patchify(self, latent: Tensor) -> Tensor:
        """[B, C, F, h, w] -> [B, F, h / patch, w / patch, C * patch^2]."""
        p = self.patch
        x = latent.float().unflatten(4, (-1, p)).unflatten(3, (-1, p))  # [B, C, F, h, p, w, p]
        return x.permute(0, 2, 3, 5, 1, 4, 6).flatten(4)

    def _token_rays(
        self, cameras: Tensor, Ks: Tensor, width: int, height: int, grid: torch.Size
    ) -> Tensor:
        """Gather the rays of each token's frames: [B, F, rows, columns, stride[0] * 6 * r^2].

        The first latent frame was made from one frame, which is repeated to fill its group.
        """
        r = self.config.rays_per_token
        samples = (grid[1] * r, grid[2] * r)
        rays = pluecker_rays(cameras, Ks, width, height, samples=samples)  # [B, N, 6, ...]
        first = rays[:, :1].expand(-1, self.stride[0], -1, -1, -1)
        groups = torch.cat([first, rays[:, 1:]], 1).unflatten(1, (grid[0], self.stride[0]))
        cells = groups.unflatten(5, (-1, r)).unflatten(4, (-1, r))  # [B, F, t, 6, rows, r, cols, r]
        return cells.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4)

    def _check(self, latent: Tensor, viewmats: Tensor, Ks: Tensor, height: int, width: int) -> None:
        if latent.ndim != 5:
            raise ValueError(f"latent must be [B, C, F, h, w], not {tuple(latent.shape)}")
        batch, channels, latent_frames, h, w = latent.shape
        if channels * self.patch**2 != self.embed.in_features:
            raise ValueError(
                f"the decoder was built for {self.embed.in_features // self.patch**2} latent"
                f" channels, got {channels}"
            )
        if h % self.patch or w % self.patch:
            raise ValueError(f"latent grid {h} x {w} cannot be cut into patches of {self.patch}")
        if (h * self.stride[1], w * self.stride[2]) != (height, width):
            raise ValueError(
                f"latent grid {h} x {w} with stride {self.stride[1]} x {self.stride[2]} is"
                f" {h * self.stride[1]} x {w * self.stride[2]} pixels, not {height} x {width}"
            )
        frames = (latent_frames - 1) * self.stride[0] + 1
        for name, cameras, last in (("viewmats", viewmats, (4, 4)), ("Ks", Ks, (3, 3))):
            if cameras.shape != (batch, frames, *last):
                raise ValueError(
                    f"{latent_frames} latent frames of {batch} clips need {name} of shape"
                    f" {(batch, frames, *last)}, not {tuple(cameras.shape)}"
                )


def activate(raw: Tensor, origins: Tensor, directions: Tensor, space: SceneSpace) -> Gaussians:
    """Turn raw outputs into Gaussians on their rays, with Lyra's activations.

    Args:
        raw: [..., G, 12], channels as :data:`CHANNELS`.
        origins, directions: [..., G, 3] of the rays; directions of unit length.
        space: limits in world units.

    Values and derivatives are finite for every finite raw output.
    """
    distance, rgb, scale, rotation, opacity = raw.split(list(CHANNELS.values()), -1)
    w = torch.sigmoid(distance - 1.65)
    return Gaussians(
        means=origins + (space.near * (1 - w) + space.far * w) * directions,
        quats=_unit_quats(rotation),
        # Capped before exp: an infinity there would meet a slope of 0 on the way back.
        scales=space.scale_cap * torch.exp((scale - 1).clamp(max=0)),
        opacities=torch.sigmoid(opacity - 2).squeeze(-1),
        colors=0.5 * torch.tanh(rgb) + 0.5,
    )


def _unit_quats(raw: Tensor) -> Tensor:
    """Bring quaternions [..., 4] to length 1, also where squares overflow; zero stays zero."""
    overflows = raw.detach().norm(dim=-1, keepdim=True).isinf()
    largest = raw.detach().abs().amax(-1, keepdim=True).clamp(min=1)
    return F.normalize(torch.where(overflows, raw / largest, raw), dim=-1)
