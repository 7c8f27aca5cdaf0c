// Scene and camera to splats.
#pragma once

#include "harmonics.h"

namespace recon {
namespace RECON_ISA {

// Boxes may be too large by rounding but never too small: blending tests every pixel.
constexpr double kReachSlack = 1e-3, kReachShare = 1 + 2e-6;
constexpr double kRootHalfLog2e = 0.84932180028801904;  // sqrt(log2(e) / 2)
constexpr double kTwoLn2 = 1.3862943611198906;
constexpr double kBudgetMin = 7.9943534368588578;  // log2(255)

// What a splat takes from its Gaussian's lane, but colour and depth.
template <class V>
struct SplatLanes {
  V x, y, ux, uy, wy, log2_opacity, left, right, top, bottom;
};

// Sigma^-1 = L^T L with L = [[ux, uy], [0, wy]]: w measures y alone, u measures x given y.
//   sigma = d^T Sigma^-1 d / 2 = ln(2) (u^2 + w^2)
template <class V>
struct Conic {
  V ux, uy, wy;

  RECON_INLINE explicit Conic(const Shape<V>& e) {
    typedef Scalar<V> S;
    const V inv_yy = (S)1 / e.cov_yy;
    ux = (S)kRootHalfLog2e * square_root(e.cov_yy / e.determinant);
    uy = -ux * e.cov_xy * inv_yy;
    wy = (S)kRootHalfLog2e * square_root(inv_yy);
  }
};

// How far a splat reaches, to each side: where opacity 2^-(u^2 + w^2) = 1/255, on the axes.
template <class V>
RECON_INLINE V reach(V log2_opacity, V covariance) {
  typedef Scalar<V> S;
  const V budget = (S)kTwoLn2 * (log2_opacity + (S)kBudgetMin);
  return square_root(budget * covariance) * (S)kReachShare + (S)kReachSlack;
}

// One half of the lanes, in double. What is not rendered has an empty box.
RECON_INLINE SplatLanes<vd> splats_in_double(const Lanes<vd>& g, const Place<vd>& p, vl visible,
                                             const Camera& camera) {
  const Shape<vd> e = shape_of(g, p, camera);
  visible &= (e.determinant > 0.0) & (e.determinant <= 1.7e308);  // huge scales overflow even here
  SplatLanes<vd> s;
  s.log2_opacity = log2_normal(visible ? g.opacity : all(1.0));
  const vd reach_x = reach(s.log2_opacity, e.cov_xx), reach_y = reach(s.log2_opacity, e.cov_yy);
  // Bounded before rounding. What is not a number becomes a bound, and is not visible anyway.
  const double width = camera.width, height = camera.height;
  const vd left = round_up(clamp(p.mean_x - reach_x - 0.5, 0.0, width));
  const vd right = round_down(clamp(p.mean_x + reach_x - 0.5, -1.0, width - 1));
  const vd top = round_up(clamp(p.mean_y - reach_y - 0.5, 0.0, height));
  const vd bottom = round_down(clamp(p.mean_y + reach_y - 0.5, -1.0, height - 1));
  const vl rendered = visible & (left <= right) & (top <= bottom);
  s.left = rendered ? left : all(1.0);
  s.right = rendered ? right : vd{};
  s.top = rendered ? top : all(1.0);
  s.bottom = rendered ? bottom : vd{};
  s.x = p.mean_x - left;
  s.y = p.mean_y - top;
  const Conic<vd> conic(e);
  s.ux = conic.ux;
  s.uy = conic.uy;
  s.wy = conic.wy;
  return s;
}

// The pixels whose centres lie within reach of a centre, which is a whole number and a fraction.
struct Span {
  vf first, last, centre;  // first and last pixel, and the centre from the first one's corner

  RECON_INLINE Span(const vd (&mean)[2], vf reach, float size) {
    const vf whole = narrow(round_down(mean[0]), round_down(mean[1]));
    const vf fraction =
        narrow(mean[0] - round_down(mean[0]), mean[1] - round_down(mean[1])) - 0.5f;
    // Below 2^22 sums of whole numbers are exact.
    constexpr float kFar = 1 << 21;
    first = clamp(whole + round_up(clamp(fraction - reach, -kFar, kFar)), 0.0f, size);
    last = clamp(whole - round_up(clamp(-fraction - reach, -kFar, kFar)), -1.0f, size - 1.0f);
    centre = (whole - first) + (fraction + 0.5f);
  }
};

// All lanes, in float32, where that is sound.
RECON_INLINE SplatLanes<vf> splats_in_single(const Lanes<vf>& g, const Place<vd> (&p)[2],
                                             const Shape<vf>& e, vi visible,
                                             const Camera& camera) {
  SplatLanes<vf> s;
  s.log2_opacity = log2_normal(visible ? g.opacity : all(1.0f));
  const Span x({p[0].mean_x, p[1].mean_x}, reach(s.log2_opacity, e.cov_xx), (float)camera.width);
  const Span y({p[0].mean_y, p[1].mean_y}, reach(s.log2_opacity, e.cov_yy), (float)camera.height);
  const vi rendered = visible & (x.first <= x.last) & (y.first <= y.last);
  s.left = rendered ? x.first : all(1.0f);
  s.right = rendered ? x.last : vf{};
  s.top = rendered ? y.first : all(1.0f);
  s.bottom = rendered ? y.last : vf{};
  s.x = x.centre;
  s.y = y.centre;
  const Conic<vf> conic(e);
  s.ux = conic.ux;
  s.uy = conic.uy;
  s.wy = conic.wy;
  return s;
}

RECON_INLINE SplatLanes<vf> narrow(const SplatLanes<vd>& a, const SplatLanes<vd>& b) {
  return {narrow(a.x, b.x),         narrow(a.y, b.y),
          narrow(a.ux, b.ux),       narrow(a.uy, b.uy),
          narrow(a.wy, b.wy),       narrow(a.log2_opacity, b.log2_opacity),
          narrow(a.left, b.left),   narrow(a.right, b.right),
          narrow(a.top, b.top),     narrow(a.bottom, b.bottom)};
}

static void project(const Gaussians& scene, const Camera& camera, int64_t begin, int64_t end,
                    Splat* splats) {
  for (int64_t first = begin; first < end; first += kLanes) {
    GaussianLanes g;
    load_gaussians(scene, first, end, g);
    Place<vd> places[2];
    vd inside[2];  // 1 or 0
    for (int half = 0; half < 2; ++half) {
      const Lanes<vd> lanes = half_of(g, half);
      places[half] = place_of(lanes.mean, camera);
      const vl seen = (places[half].z >= camera.near) & (places[half].z <= camera.far) &
                      (lanes.opacity >= kAlphaMin);
      inside[half] = seen ? all(1.0) : vd{};
    }
    const vi visible = g.usable & (narrow(inside[0], inside[1]) != 0.0f);
    const Place<vf> place = narrow(places[0], places[1]);
    const Shape<vf> shape = shape_of<vf>(g, place, camera);
    SplatLanes<vf> s;
    if (!any(visible & ~sound(g, place, shape))) {
      s = splats_in_single(g, places, shape, visible, camera);
    } else {
      vd shown[2];
      widen(visible ? all(1.0f) : vf{}, shown);
      SplatLanes<vd> halves[2];
      for (int half = 0; half < 2; ++half)
        halves[half] =
            splats_in_double(half_of(g, half), places[half], shown[half] != 0.0, camera);
      s = narrow(halves[0], halves[1]);
    }
    if (scene.sh_degree != kPlainColors) {
      const vi rendered = s.left <= s.right;
      const vi kept = any(rendered) ? shade(scene, first, rendered,
                                            sight_of(g, places, camera), g.color)
                                    : rendered;
      s.left = kept ? s.left : all(1.0f);
      s.right = kept ? s.right : vf{};
    }
    Splat nowhere;
    float* out[kLanes];
    for (int i = 0; i < kLanes; ++i) out[i] = &(first + i < end ? splats[first + i] : nowhere).x;
    store_columns(out, 0, s.x, s.y, s.ux, s.uy);
    store_columns(out, 4, s.wy, s.log2_opacity, vf{}, vf{});
    store_columns(out, 8, g.color[0], g.color[1], g.color[2], place.z);
    store_columns(out, 12, (vf)to_int(s.left), (vf)to_int(s.right), (vf)to_int(s.top),
                  (vf)to_int(s.bottom));
  }
}

}  // namespace RECON_ISA
}  // namespace recon
