// Scene and camera to splats.
#pragma once

#include "ewa.h"

namespace recon {
namespace RECON_ISA {

// The box may be too large by rounding but never too small: blending tests every pixel.
constexpr double kReachSlack = 1e-3;

static void project(const Gaussians& scene, const Camera& camera, int64_t begin, int64_t end,
                    Splat* splats) {
  // sigma = d^T Sigma^-1 d / 2 = ln(2) (u^2 + w^2)
  constexpr double kRootHalfLog2e = 0.84932180028801904;  // sqrt(log2(e) / 2)
  constexpr double kTwoLn2 = 1.3862943611198906;
  for (int64_t first = begin; first < end; first += kDoubles) {
    const GaussianLanes g = load_gaussians(scene, first, end);
    const Ewa e = project_lanes(g, camera);

    const vl visible = g.usable & (e.z >= camera.near) & (e.z <= camera.far) &
                       (g.opacity >= kAlphaMin) & (e.determinant > 0.0) &
                       (e.determinant <= 1.7e308);  // huge scales overflow even in double
    const vd log2_opacity = log2_normal(visible ? g.opacity : all(1.0));
    // Where opacity 2^-(u^2 + w^2) = 1/255, on the axes.
    const vd budget = kTwoLn2 * (log2_opacity + 7.9943534368588578);
    const vd reach_x = rough_square_root(budget * e.cov_xx) * (1 + 1e-6) + kReachSlack;
    const vd reach_y = rough_square_root(budget * e.cov_yy) * (1 + 1e-6) + kReachSlack;
    const vd low_x = e.mean_x - reach_x - 0.5, high_x = e.mean_x + reach_x - 0.5;
    const vd low_y = e.mean_y - reach_y - 0.5, high_y = e.mean_y + reach_y - 0.5;

    // Sigma^-1 = L^T L with L = [[ux, uy], [0, wy]]: w measures y alone, u measures x given y.
    const vd inv_yy = 1.0 / e.cov_yy;
    const vd ux = kRootHalfLog2e * rough_square_root(e.cov_yy / e.determinant);
    const vd uy = -ux * e.cov_xy * inv_yy;
    const vd wy = kRootHalfLog2e * rough_square_root(inv_yy);

    const int lanes = end - first < kDoubles ? (int)(end - first) : kDoubles;
    for (int i = 0; i < lanes; ++i) {
      Splat& splat = splats[first + i];
      double left = __builtin_ceil(low_x[i]), right = __builtin_floor(high_x[i]);
      double top = __builtin_ceil(low_y[i]), bottom = __builtin_floor(high_y[i]);
      left = left > 0 ? left : 0;
      top = top > 0 ? top : 0;
      right = right < camera.width - 1 ? right : camera.width - 1;
      bottom = bottom < camera.height - 1 ? bottom : camera.height - 1;
      if (!(visible[i] && left <= right && top <= bottom)) {
        splat.left = splat.top = 1;
        splat.right = splat.bottom = 0;
        continue;
      }
      splat.left = (uint16_t)left;
      splat.right = (uint16_t)right;
      splat.top = (uint16_t)top;
      splat.bottom = (uint16_t)bottom;
      splat.x = (float)(e.mean_x[i] - left);
      splat.y = (float)(e.mean_y[i] - top);
      splat.ux = (float)ux[i];
      splat.uy = (float)uy[i];
      splat.wy = (float)wy[i];
      splat.log2_opacity = (float)log2_opacity[i];
      splat.depth = (float)e.z[i];
    }
  }
}

}  // namespace RECON_ISA
}  // namespace recon
