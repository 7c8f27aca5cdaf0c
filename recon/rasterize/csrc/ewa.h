// EWA projection of 3D Gaussians to the image plane (Zwicker et al. 2001, as in 3D Gaussian
// splatting and gsplat), several Gaussians at a time.
//
// Positions are worked out in double. Shapes in float32 where that is good enough, twice as many
// at a time; else in double: the footprint of a needle, 1000 pixels long and one wide, hangs on
// the last digits of its covariance. The determinant is summed from squares: nothing cancels.
#pragma once

#include "functions.h"

namespace recon {
namespace RECON_ISA {

// Gaussians, one in each lane.
template <class V>
struct Lanes {
  V mean[3], quat[4], scale[3], opacity;
};

// kLanes of them, as they come.
struct GaussianLanes : Lanes<vf> {
  vf color[3];  // where there are three channels of plain colours, else zero
  vi usable;    // all values finite, plain colours too, and the quaternion is not zero
};

// Rows of ``width`` floats, 3 or 4, to lanes: the rows [first, first + kLanes) of a table, and
// beyond ``end`` the last one again.
template <int width>
RECON_INLINE void load_rows(const float* table, int64_t first, int64_t end, vf (&columns)[4]) {
  const float* rows[kLanes];
  float copies[kLanes][4] = {};
  // Four floats are read of each row: of the last one they might lie beyond the table.
  const bool inside = first + kLanes < end;
  for (int i = 0; i < kLanes; ++i) {
    rows[i] = inside ? table + width * (first + i) : copies[i];
    if (!inside) {
      const int64_t row = first + i < end ? first + i : end - 1;
      std::memcpy(copies[i], table + width * row, width * sizeof(float));
    }
  }
  load_columns(rows, 0, columns);
}

// Loads the Gaussians [first, first + kLanes); beyond ``end`` the last one again.
RECON_INLINE void load_gaussians(const Gaussians& scene, int64_t first, int64_t end,
                                 GaussianLanes& g) {
  vf mean[4], quat[4], scale[4], color[4] = {};
  load_rows<3>(scene.means, first, end, mean);
  load_rows<4>(scene.quats, first, end, quat);
  load_rows<3>(scene.scales, first, end, scale);
  if (first + kLanes <= end)
    std::memcpy(&g.opacity, scene.opacities + first, sizeof g.opacity);
  else
    for (int lane = 0; lane < kLanes; ++lane)
      g.opacity[lane] = scene.opacities[first + lane < end ? first + lane : end - 1];
  vf finite = {};  // 0, or NaN once something is not finite
  if (scene.sh_degree != kPlainColors) {
    // Read where they are needed: there are many of them.
  } else if (scene.channels == 3) {
    load_rows<3>(scene.colors, first, end, color);
    finite += (color[0] * 0.0f + color[1] * 0.0f) + color[2] * 0.0f;
  } else {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t i = first + lane < end ? first + lane : end - 1;
      for (int k = 0; k < scene.channels; ++k)
        finite[lane] += scene.colors[i * scene.channels + k] * 0.0f;
    }
  }
  vi some = {};  // of the quaternion is not zero
  for (int k = 0; k < 3; ++k) {
    g.mean[k] = mean[k];
    g.scale[k] = scale[k];
    g.color[k] = color[k];
    finite += mean[k] * 0.0f + scale[k] * 0.0f;
  }
  for (int k = 0; k < 4; ++k) {
    g.quat[k] = quat[k];
    finite += quat[k] * 0.0f;
    some |= quat[k] != 0.0f;
  }
  finite += g.opacity * 0.0f;
  g.usable = (finite == 0.0f) & some;
}

// A half of the lanes, in double.
RECON_INLINE Lanes<vd> half_of(const GaussianLanes& g, int half) {
  Lanes<vd> out;
  const auto widened = [half](vf a) {
    vd halves[2];
    widen(a, halves);
    return halves[half];
  };
  for (int k = 0; k < 3; ++k) out.mean[k] = widened(g.mean[k]);
  for (int k = 0; k < 4; ++k) out.quat[k] = widened(g.quat[k]);
  for (int k = 0; k < 3; ++k) out.scale[k] = widened(g.scale[k]);
  out.opacity = widened(g.opacity);
  return out;
}

// Where Gaussians lie.
template <class V>
struct Place {
  V x, y, z, inv_z;      // camera coordinates
  V ratio_x, ratio_y;    // x / z, y / z
  V mean_x, mean_y;      // pixels
};

RECON_INLINE Place<vd> place_of(const vd (&mean)[3], const Camera& c) {
  Place<vd> p;
  const double* R = c.rotation;
  p.x = R[0] * mean[0] + R[1] * mean[1] + R[2] * mean[2] + c.translation[0];
  p.y = R[3] * mean[0] + R[4] * mean[1] + R[5] * mean[2] + c.translation[1];
  p.z = R[6] * mean[0] + R[7] * mean[1] + R[8] * mean[2] + c.translation[2];
  p.inv_z = 1.0 / p.z;
  p.ratio_x = p.x * p.inv_z;
  p.ratio_y = p.y * p.inv_z;
  p.mean_x = c.fx * p.ratio_x + c.cx;
  p.mean_y = c.fy * p.ratio_y + c.cy;
  return p;
}

RECON_INLINE Place<vf> narrow(const Place<vd>& a, const Place<vd>& b) {
  return {narrow(a.x, b.x),           narrow(a.y, b.y),
          narrow(a.z, b.z),           narrow(a.inv_z, b.inv_z),
          narrow(a.ratio_x, b.ratio_x), narrow(a.ratio_y, b.ratio_y),
          narrow(a.mean_x, b.mean_x), narrow(a.mean_y, b.mean_y)};
}

// Bounds of the slopes x / z and y / z at which the projection is linearised.
struct SlopeBounds {
  double low_x, high_x, low_y, high_y;
};

RECON_INLINE SlopeBounds slope_bounds(const Camera& c) {
  const double margin_x = kEdgeMargin * 0.5 * c.width / c.fx;
  const double margin_y = kEdgeMargin * 0.5 * c.height / c.fy;
  return {-(c.cx / c.fx + margin_x), (c.width - c.cx) / c.fx + margin_x,
          -(c.cy / c.fy + margin_y), (c.height - c.cy) / c.fy + margin_y};
}

// The footprints, and what their derivative needs.
template <class V>
struct Shape {
  V slope_x, slope_y;      // the ratios, clamped to the picture and its margin
  V inv_squared;           // 1 / |quat|^2
  V turn[9];               // its rotation matrix, row-major
  V jac_x[3], jac_y[3];    // gradient of each pixel coordinate with respect to the world position
  V root_x[3], root_y[3];  // A = jac * turn * scale, [2, 3]: the 2D covariance is A A^T + blur
  V cov_xx, cov_xy, cov_yy, determinant;
};

template <class V>
RECON_INLINE Shape<V> shape_of(const Lanes<V>& g, const Place<V>& p, const Camera& c) {
  typedef Scalar<V> S;
  Shape<V> e;
  const SlopeBounds bounds = slope_bounds(c);
  e.slope_x = clamp(p.ratio_x, (S)bounds.low_x, (S)bounds.high_x);
  e.slope_y = clamp(p.ratio_y, (S)bounds.low_y, (S)bounds.high_y);

  // Normalised by |quat|^2, which needs no square root.
  const V qw = g.quat[0], qx = g.quat[1], qy = g.quat[2], qz = g.quat[3];
  e.inv_squared = (S)1 / (qw * qw + qx * qx + qy * qy + qz * qz);
  const V two = (S)2 * e.inv_squared;
  e.turn[0] = (S)1 - two * (qy * qy + qz * qz);
  e.turn[1] = two * (qx * qy - qw * qz);
  e.turn[2] = two * (qx * qz + qw * qy);
  e.turn[3] = two * (qx * qy + qw * qz);
  e.turn[4] = (S)1 - two * (qx * qx + qz * qz);
  e.turn[5] = two * (qy * qz - qw * qx);
  e.turn[6] = two * (qx * qz - qw * qy);
  e.turn[7] = two * (qy * qz + qw * qx);
  e.turn[8] = (S)1 - two * (qx * qx + qy * qy);

  const double* R = c.rotation;
  for (int k = 0; k < 3; ++k) {
    e.jac_x[k] = (S)c.fx * p.inv_z * ((S)R[k] - e.slope_x * (S)R[6 + k]);
    e.jac_y[k] = (S)c.fy * p.inv_z * ((S)R[3 + k] - e.slope_y * (S)R[6 + k]);
  }
  for (int j = 0; j < 3; ++j) {
    e.root_x[j] = g.scale[j] * (e.jac_x[0] * e.turn[j] + e.jac_x[1] * e.turn[3 + j] +
                                e.jac_x[2] * e.turn[6 + j]);
    e.root_y[j] = g.scale[j] * (e.jac_y[0] * e.turn[j] + e.jac_y[1] * e.turn[3 + j] +
                                e.jac_y[2] * e.turn[6 + j]);
  }
  const V *a = e.root_x, *b = e.root_y;
  const V aa = a[0] * a[0] + a[1] * a[1] + a[2] * a[2];
  const V bb = b[0] * b[0] + b[1] * b[1] + b[2] * b[2];
  e.cov_xx = aa + (S)kBlur;
  e.cov_xy = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  e.cov_yy = bb + (S)kBlur;
  // |a|^2 |b|^2 - (a b)^2 = |a x b|^2 (Lagrange).
  const V cross_x = a[1] * b[2] - a[2] * b[1];
  const V cross_y = a[2] * b[0] - a[0] * b[2];
  const V cross_z = a[0] * b[1] - a[1] * b[0];
  e.determinant = cross_x * cross_x + cross_y * cross_y + cross_z * cross_z +
                  (S)kBlur * (aa + bb) + (S)(kBlur * kBlur);
  return e;
}

// Whether float32 is good enough for a footprint: within 1e-6 of its conic, as measured.
//
// The rounding of A is a share of its terms, scale |jac|, which may be far larger than A itself (a
// needle seen from its end). What that does to the conic goes with the smaller eigenvalue of the
// covariance, about determinant / trace. Squares that leave float32's range are not good enough.
RECON_INLINE vi sound(const Lanes<vf>& g, const Place<vf>& p, const Shape<vf>& e) {
  constexpr float kSpread = 100;
  const vf largest = larger(larger(g.scale[0] * g.scale[0], g.scale[1] * g.scale[1]),
                            g.scale[2] * g.scale[2]);
  vf pull = {};
  for (int k = 0; k < 3; ++k) pull += e.jac_x[k] * e.jac_x[k] + e.jac_y[k] * e.jac_y[k];
  constexpr float kFar = 1 << 20;  // pixels, beyond which corners of boxes lose their fractions
  return (largest * pull * (e.cov_xx + e.cov_yy) <= kSpread * e.determinant) &
         (e.determinant < 1e20f) & (e.inv_squared > 1e-20f) & (e.inv_squared < 1e20f) &
         (p.mean_x > -kFar) & (p.mean_x < kFar) & (p.mean_y > -kFar) & (p.mean_y < kFar);
}

}  // namespace RECON_ISA
}  // namespace recon
