// Scene and camera to splats.
#pragma once

#include "ewa.h"

namespace recon {
namespace RECON_ISA {

// The box may be too large by rounding but never too small: blending tests every pixel.
constexpr double kReachSlack = 1e-3;

// What a splat takes from its Gaussian's lane, in double.
struct SplatLanes {
  vd x, y, ux, uy, wy, log2_opacity, depth, left, right, top, bottom;
};

RECON_INLINE SplatLanes splat_lanes(const GaussianLanes& g, const Camera& camera) {
  // sigma = d^T Sigma^-1 d / 2 = ln(2) (u^2 + w^2)
  constexpr double kRootHalfLog2e = 0.84932180028801904;  // sqrt(log2(e) / 2)
  constexpr double kTwoLn2 = 1.3862943611198906;
  const Ewa e = project_lanes(g, camera);
  const vl visible = g.usable & (e.z >= camera.near) & (e.z <= camera.far) &
                     (g.opacity >= kAlphaMin) & (e.determinant > 0.0) &
                     (e.determinant <= 1.7e308);  // huge scales overflow even in double
  SplatLanes s;
  s.depth = e.z;
  s.log2_opacity = log2_normal(visible ? g.opacity : all(1.0));
  // Where opacity 2^-(u^2 + w^2) = 1/255, on the axes.
  const vd budget = kTwoLn2 * (s.log2_opacity + 7.9943534368588578);
  const vd reach_x = rough_square_root(budget * e.cov_xx) * (1 + 1e-6) + kReachSlack;
  const vd reach_y = rough_square_root(budget * e.cov_yy) * (1 + 1e-6) + kReachSlack;
  // Bounded before rounding. What is not a number becomes a bound, and is not visible anyway.
  const double width = camera.width, height = camera.height;
  const vd left = round_up(clamp(e.mean_x - reach_x - 0.5, 0, width));
  const vd right = round_down(clamp(e.mean_x + reach_x - 0.5, -1, width - 1));
  const vd top = round_up(clamp(e.mean_y - reach_y - 0.5, 0, height));
  const vd bottom = round_down(clamp(e.mean_y + reach_y - 0.5, -1, height - 1));
  const vl drawn = visible & (left <= right) & (top <= bottom);
  s.left = drawn ? left : all(1.0);
  s.right = drawn ? right : vd{};
  s.top = drawn ? top : all(1.0);
  s.bottom = drawn ? bottom : vd{};
  s.x = e.mean_x - left;
  s.y = e.mean_y - top;

  // Sigma^-1 = L^T L with L = [[ux, uy], [0, wy]]: w measures y alone, u measures x given y.
  const vd inv_yy = 1.0 / e.cov_yy;
  s.ux = kRootHalfLog2e * rough_square_root(e.cov_yy / e.determinant);
  s.uy = -s.ux * e.cov_xy * inv_yy;
  s.wy = kRootHalfLog2e * rough_square_root(inv_yy);
  return s;
}

static void project(const Gaussians& scene, const Camera& camera, int64_t begin, int64_t end,
                    Splat* splats) {
  for (int64_t first = begin; first < end; first += kLanes) {
    GaussianLanes g[2];
    vf color[4];
    load_gaussians(scene, first, end, g, color);
    const SplatLanes a = splat_lanes(g[0], camera), b = splat_lanes(g[1], camera);
    Splat nowhere;
    float* out[kLanes];
    for (int i = 0; i < kLanes; ++i) out[i] = &(first + i < end ? splats[first + i] : nowhere).x;
    store_columns(out, 0, narrow(a.x, b.x), narrow(a.y, b.y), narrow(a.ux, b.ux),
                  narrow(a.uy, b.uy));
    store_columns(out, 4, narrow(a.wy, b.wy), narrow(a.log2_opacity, b.log2_opacity), vf{}, vf{});
    store_columns(out, 8, color[0], color[1], color[2], narrow(a.depth, b.depth));
    store_columns(out, 12, (vf)to_int(narrow(a.left, b.left)), (vf)to_int(narrow(a.right, b.right)),
                  (vf)to_int(narrow(a.top, b.top)), (vf)to_int(narrow(a.bottom, b.bottom)));
  }
}

}  // namespace RECON_ISA
}  // namespace recon
