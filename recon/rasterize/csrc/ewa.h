// EWA projection of 3D Gaussians to the image plane (Zwicker et al. 2001, as in 3D Gaussian
// splatting and gsplat), several Gaussians at a time.
//
// In double: the footprint of a needle, 1000 pixels long and one wide, hangs on the last digits of
// its covariance. The determinant is summed from squares, so that nothing cancels.
#pragma once

#include "simd.h"

namespace recon {
namespace RECON_ISA {

// kDoubles Gaussians, one in each lane.
struct GaussianLanes {
  vd mean[3], quat[4], scale[3], opacity;
  vl usable;  // all values finite, colours too, and the quaternion is not zero
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

// Loads the Gaussians [first, first + kLanes), half of them into each of ``halves``; beyond ``end``
// the last one again. Colors are loaded where there are three channels, else they are zero.
RECON_INLINE void load_gaussians(const Gaussians& scene, int64_t first, int64_t end,
                                 GaussianLanes (&halves)[2], vf (&color)[4]) {
  vf mean[4], quat[4], scale[4], opacity;
  load_rows<3>(scene.means, first, end, mean);
  load_rows<4>(scene.quats, first, end, quat);
  load_rows<3>(scene.scales, first, end, scale);
  for (int lane = 0; lane < kLanes; ++lane)
    opacity[lane] = scene.opacities[first + lane < end ? first + lane : end - 1];
  vf finite = {};  // 0, or NaN once something is not finite
  for (int k = 0; k < 4; ++k) color[k] = vf{};
  if (scene.channels == 3) {
    load_rows<3>(scene.colors, first, end, color);
    finite += (color[0] * 0.0f + color[1] * 0.0f) + color[2] * 0.0f;
  } else {
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t i = first + lane < end ? first + lane : end - 1;
      for (int k = 0; k < scene.channels; ++k)
        finite[lane] += scene.colors[i * scene.channels + k] * 0.0f;
    }
  }
  for (int k = 0; k < 3; ++k) finite += mean[k] * 0.0f + scale[k] * 0.0f;
  for (int k = 0; k < 4; ++k) finite += quat[k] * 0.0f;
  finite += opacity * 0.0f;

  vd mean_halves[3][2], quat_halves[4][2], scale_halves[3][2], opacity_halves[2], finite_halves[2];
  for (int k = 0; k < 3; ++k) widen(mean[k], mean_halves[k]);
  for (int k = 0; k < 4; ++k) widen(quat[k], quat_halves[k]);
  for (int k = 0; k < 3; ++k) widen(scale[k], scale_halves[k]);
  widen(opacity, opacity_halves);
  widen(finite, finite_halves);
  for (int half = 0; half < 2; ++half) {
    GaussianLanes& g = halves[half];
    for (int k = 0; k < 3; ++k) g.mean[k] = mean_halves[k][half];
    for (int k = 0; k < 4; ++k) g.quat[k] = quat_halves[k][half];
    for (int k = 0; k < 3; ++k) g.scale[k] = scale_halves[k][half];
    g.opacity = opacity_halves[half];
    const vd squared = g.quat[0] * g.quat[0] + g.quat[1] * g.quat[1] + g.quat[2] * g.quat[2] +
                       g.quat[3] * g.quat[3];
    g.usable = (finite_halves[half] == 0.0) & (squared > 0.0);
  }
}

// The projection, and what its derivative needs.
struct Ewa {
  vd x, y, z, inv_z;      // camera coordinates
  vd ratio_x, ratio_y;    // x / z, y / z
  vd slope_x, slope_y;    // the same, clamped to the picture and its margin
  vd inv_squared;         // 1 / |quat|^2
  vd turn[9];             // its rotation matrix, row-major
  vd jac_x[3], jac_y[3];  // gradient of each pixel coordinate with respect to the world position
  vd root_x[3], root_y[3];  // A = jac * turn * scale, [2, 3]: the 2D covariance is A A^T + blur
  vd cov_xx, cov_xy, cov_yy, determinant;
  vd mean_x, mean_y;  // pixels
};

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

RECON_INLINE Ewa project_lanes(const GaussianLanes& g, const Camera& c) {
  Ewa e;
  const double* R = c.rotation;
  e.x = R[0] * g.mean[0] + R[1] * g.mean[1] + R[2] * g.mean[2] + c.translation[0];
  e.y = R[3] * g.mean[0] + R[4] * g.mean[1] + R[5] * g.mean[2] + c.translation[1];
  e.z = R[6] * g.mean[0] + R[7] * g.mean[1] + R[8] * g.mean[2] + c.translation[2];
  e.inv_z = 1.0 / e.z;
  e.ratio_x = e.x * e.inv_z;
  e.ratio_y = e.y * e.inv_z;
  const SlopeBounds bounds = slope_bounds(c);
  e.slope_x = clamp(e.ratio_x, bounds.low_x, bounds.high_x);
  e.slope_y = clamp(e.ratio_y, bounds.low_y, bounds.high_y);
  e.mean_x = c.fx * e.ratio_x + c.cx;
  e.mean_y = c.fy * e.ratio_y + c.cy;

  // Normalised by |quat|^2, which needs no square root.
  e.inv_squared = 1.0 / (g.quat[0] * g.quat[0] + g.quat[1] * g.quat[1] + g.quat[2] * g.quat[2] +
                         g.quat[3] * g.quat[3]);
  const vd qw = g.quat[0], qx = g.quat[1], qy = g.quat[2], qz = g.quat[3];
  const vd two = 2.0 * e.inv_squared;
  e.turn[0] = 1.0 - two * (qy * qy + qz * qz);
  e.turn[1] = two * (qx * qy - qw * qz);
  e.turn[2] = two * (qx * qz + qw * qy);
  e.turn[3] = two * (qx * qy + qw * qz);
  e.turn[4] = 1.0 - two * (qx * qx + qz * qz);
  e.turn[5] = two * (qy * qz - qw * qx);
  e.turn[6] = two * (qx * qz - qw * qy);
  e.turn[7] = two * (qy * qz + qw * qx);
  e.turn[8] = 1.0 - two * (qx * qx + qy * qy);

  for (int k = 0; k < 3; ++k) {
    e.jac_x[k] = c.fx * e.inv_z * (R[k] - e.slope_x * R[6 + k]);
    e.jac_y[k] = c.fy * e.inv_z * (R[3 + k] - e.slope_y * R[6 + k]);
  }
  for (int j = 0; j < 3; ++j) {
    e.root_x[j] = g.scale[j] * (e.jac_x[0] * e.turn[j] + e.jac_x[1] * e.turn[3 + j] +
                                e.jac_x[2] * e.turn[6 + j]);
    e.root_y[j] = g.scale[j] * (e.jac_y[0] * e.turn[j] + e.jac_y[1] * e.turn[3 + j] +
                                e.jac_y[2] * e.turn[6 + j]);
  }
  const vd *a = e.root_x, *b = e.root_y;
  const vd aa = a[0] * a[0] + a[1] * a[1] + a[2] * a[2];
  const vd bb = b[0] * b[0] + b[1] * b[1] + b[2] * b[2];
  e.cov_xx = aa + kBlur;
  e.cov_xy = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  e.cov_yy = bb + kBlur;
  // |a|^2 |b|^2 - (a b)^2 = |a x b|^2 (Lagrange).
  const vd cross_x = a[1] * b[2] - a[2] * b[1];
  const vd cross_y = a[2] * b[0] - a[0] * b[2];
  const vd cross_z = a[0] * b[1] - a[1] * b[0];
  e.determinant = cross_x * cross_x + cross_y * cross_y + cross_z * cross_z + kBlur * (aa + bb) +
                  kBlur * kBlur;
  return e;
}

}  // namespace RECON_ISA
}  // namespace recon
