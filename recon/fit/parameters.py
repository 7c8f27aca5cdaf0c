"""What is optimised: the Gaussians of a scene in free numbers."""

import torch
from torch import Tensor, nn

from recon.fit.relocation import split_evenly
from recon.gaussians import Gaussians
from recon.io.columns import SH_C0
from recon.rasterize import Rendered, rasterize
from recon.rotations import matrices_from_quats

_OPACITY_MARGIN, _SCALE_LEAST = 1e-6, 1e-12


class SceneParameters(nn.Module):
    """G Gaussians whose every number may be any.

    Args:
        start: one scene, with plain colours or harmonics.
        sh_degree: of the harmonics that there is room for.
    """

    def __init__(self, start: Gaussians, sh_degree: int):
        super().__init__()
        bases = (sh_degree + 1) ** 2
        if start.sh_degree is None:
            constant = (start.colors[:, None] - 0.5) / SH_C0
        else:
            constant = start.colors[:, :1]
        rest = constant.new_zeros(start.num, bases - 1, 3)
        if start.sh_degree:
            kept = min(bases, start.colors.shape[1]) - 1
            rest[:, :kept] = start.colors[:, 1 : 1 + kept]
        opacities = start.opacities.clamp(_OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
        self.means = nn.Parameter(start.means.clone())
        self.log_scales = nn.Parameter(start.scales.clamp(min=_SCALE_LEAST).log())
        self.quats = nn.Parameter(start.quats.clone())
        self.logits = nn.Parameter(torch.logit(opacities))
        self.constant = nn.Parameter(constant.clone())
        self.harmonics = nn.Parameter(rest)

    def render(
        self, viewmats: Tensor, Ks: Tensor, width: int, height: int, degree: int, engine: str
    ) -> Rendered:
        """Render V views with harmonics up to a degree; see :func:`recon.rasterize`."""
        bases = (degree + 1) ** 2
        return rasterize(
            self.means,
            self.quats,
            self.log_scales.exp(),
            self.logits.sigmoid(),
            torch.cat([self.constant, self.harmonics[:, : bases - 1]], 1),
            viewmats,
            Ks,
            width,
            height,
            sh_degree=degree,
            engine=engine,
        )

    @torch.no_grad()
    def gaussians(self) -> Gaussians:
        """The scene as it is now, cut from the graph."""
        return Gaussians(
            self.means.clone(),
            nn.functional.normalize(self.quats, dim=-1),
            self.log_scales.exp(),
            self.logits.sigmoid(),
            torch.cat([self.constant, self.harmonics], 1),
        )

    @torch.no_grad()
    def relocate(
        self, optimizer: torch.optim.Optimizer, dead_opacity: float, rng: torch.Generator
    ) -> int:
        """Put Gaussians that nobody sees where opaque ones are; returns how many.

        Those are drawn in proportion to their opacities, and share their look among their copies
        (:func:`split_evenly`). The optimiser forgets what it knew of them.
        """
        opacities = self.logits.sigmoid()
        dead = (opacities <= dead_opacity) | ~self._finite()
        places, alive = dead.nonzero()[:, 0], (~dead).nonzero()[:, 0]
        if not len(places) or not len(alive):
            return 0
        # chance is the processor's on every device
        weights = opacities[alive].cpu()
        drawn = torch.multinomial(weights, len(places), replacement=True, generator=rng)
        source = alive[drawn.to(alive.device)]
        copies = torch.bincount(source, minlength=len(opacities))[source] + 1
        opacity, scales = split_evenly(opacities[source], self.log_scales[source].exp(), copies)
        opacity = opacity.clamp(dead_opacity, 1 - _OPACITY_MARGIN)
        for where in (source, places):
            self.logits[where] = torch.logit(opacity)
            self.log_scales[where] = scales.clamp(min=_SCALE_LEAST).log()
        for parameter in (self.means, self.quats, self.constant, self.harmonics):
            parameter[places] = parameter[source]
        for parameter in self.parameters():
            for name in ("exp_avg", "exp_avg_sq"):
                if name in optimizer.state[parameter]:
                    optimizer.state[parameter][name][source] = 0
                    optimizer.state[parameter][name][places] = 0
        return len(places)

    @torch.no_grad()
    def stir(self, strength: float, rng: torch.Generator) -> None:
        """Move the centres of faint Gaussians at random, along their own shapes (Eq. 8)."""
        faint = torch.sigmoid(-100 * (self.logits.sigmoid() - 0.005))
        axes = matrices_from_quats(nn.functional.normalize(self.quats, dim=-1))
        shape = axes * self.log_scales.exp()[:, None]
        chance = torch.randn(self.means.shape, generator=rng).to(self.means)
        noise = chance * faint[:, None] * strength
        self.means += (shape @ (shape.transpose(1, 2) @ noise[..., None]))[..., 0]

    def _finite(self) -> Tensor:
        flat = [p.reshape(len(p), -1) for p in self.parameters()]
        return torch.cat(flat, 1).isfinite().all(1)
