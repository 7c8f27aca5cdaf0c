// Gradients of splats back to the scene and to the camera: the derivative of ewa.h, in reverse.
#pragma once

#include "ewa.h"

namespace recon {
namespace RECON_ISA {

// Gradients of the projection's outputs, one Gaussian in each lane; 0 where it is not visible.
struct SplatGradient {
  vd mean_x, mean_y;
  vd cov_xx, cov_xy, cov_yy;  // twice the gradient of the symmetric matrix
  vd log_opacity, depth;
};

// Turns moments of the flow f = d loss / d log alpha over a splat's pixels into gradients:
//   d log alpha / d mean  = Sigma^-1 d         = L^T v / s
//   d log alpha / d Sigma = Sigma^-1 d d^T Sigma^-1 / 2 = L^T v v^T L / (2 s^2),
// where v = (u, w) = L d and s = log2(e) / 2 is the scale that u and w carry.
RECON_INLINE SplatGradient unwhiten(const vd* moments, vd ux, vd uy, vd wy, vd depth) {
  constexpr double kInverseScale = 1.3862943611198906;  // 2 ln 2
  const vd m = moments[0], mu = moments[1], mw = moments[2];
  const vd muu = moments[3], muw = moments[4], mww = moments[5];
  constexpr double k2 = kInverseScale * kInverseScale;
  SplatGradient g;
  g.mean_x = kInverseScale * ux * mu;
  g.mean_y = kInverseScale * (uy * mu + wy * mw);
  g.cov_xx = k2 * ux * ux * muu;
  g.cov_xy = k2 * ux * (uy * muu + wy * muw);
  g.cov_yy = k2 * (uy * uy * muu + 2.0 * uy * wy * muw + wy * wy * mww);
  g.log_opacity = m;
  g.depth = depth;
  return g;
}

struct CameraGradientLanes {
  vd rotation[9], translation[3], fx, fy, cx, cy;
};

struct GaussianGradientLanes {
  vd mean[3], quat[4], scale[3], opacity;
};

RECON_INLINE GaussianGradientLanes pull_back(const GaussianLanes& g, const Ewa& e, const Camera& c,
                                             const SplatGradient& d, vl visible,
                                             CameraGradientLanes* to_camera) {
  const double* R = c.rotation;
  // Sigma = A A^T: dA = 2 dSigma A.
  vd d_root_x[3], d_root_y[3];
  for (int j = 0; j < 3; ++j) {
    d_root_x[j] = d.cov_xx * e.root_x[j] + d.cov_xy * e.root_y[j];
    d_root_y[j] = d.cov_xy * e.root_x[j] + d.cov_yy * e.root_y[j];
  }
  // A = jac turn diag(scale).
  GaussianGradientLanes out;
  vd d_turn[9], d_jac_x[3], d_jac_y[3];
  for (int k = 0; k < 3; ++k) d_jac_x[k] = d_jac_y[k] = vd{};
  for (int j = 0; j < 3; ++j) {
    out.scale[j] = vd{};
    for (int k = 0; k < 3; ++k) {
      const vd d_kj = e.jac_x[k] * d_root_x[j] + e.jac_y[k] * d_root_y[j];
      out.scale[j] += d_kj * e.turn[3 * k + j];
      d_turn[3 * k + j] = d_kj * g.scale[j];
      d_jac_x[k] += d_root_x[j] * g.scale[j] * e.turn[3 * k + j];
      d_jac_y[k] += d_root_y[j] * g.scale[j] * e.turn[3 * k + j];
    }
  }

  // The rotation matrix as if of a unit quaternion; then what changes its length falls away. Both
  // steps divide by the length once.
  const vd qw = g.quat[0], qx = g.quat[1], qy = g.quat[2], qz = g.quat[3];
  const vd* t = d_turn;
  const vd d_unit[4] = {
      2.0 * (qx * (t[7] - t[5]) + qy * (t[2] - t[6]) + qz * (t[3] - t[1])),
      2.0 * (qw * (t[7] - t[5]) + qy * (t[1] + t[3]) + qz * (t[2] + t[6]) -
             2.0 * qx * (t[4] + t[8])),
      2.0 * (qw * (t[2] - t[6]) + qx * (t[1] + t[3]) + qz * (t[5] + t[7]) -
             2.0 * qy * (t[0] + t[8])),
      2.0 * (qw * (t[3] - t[1]) + qx * (t[2] + t[6]) + qy * (t[5] + t[7]) -
             2.0 * qz * (t[0] + t[4]))};
  const vd radial =
      (qw * d_unit[0] + qx * d_unit[1] + qy * d_unit[2] + qz * d_unit[3]) * e.inv_squared;
  for (int k = 0; k < 4; ++k) out.quat[k] = (d_unit[k] - g.quat[k] * radial) * e.inv_squared;

  // jac_x = fx / z (R_0 - slope_x R_2), jac_y likewise; mean = f ratio + c.
  const vd fx_z = c.fx * e.inv_z, fy_z = c.fy * e.inv_z;
  vd d_slope_x = {}, d_slope_y = {}, along_x = {}, along_y = {};
  for (int k = 0; k < 3; ++k) {
    d_slope_x -= fx_z * d_jac_x[k] * R[6 + k];
    d_slope_y -= fy_z * d_jac_y[k] * R[6 + k];
    along_x += d_jac_x[k] * e.jac_x[k];
    along_y += d_jac_y[k] * e.jac_y[k];
  }
  const SlopeBounds bounds = slope_bounds(c);
  const vl low_x = e.ratio_x < bounds.low_x, high_x = e.ratio_x > bounds.high_x;
  const vl low_y = e.ratio_y < bounds.low_y, high_y = e.ratio_y > bounds.high_y;
  // Beyond a bound the slope follows the bound, which follows the intrinsics.
  const vd free_x = (low_x | high_x) ? vd{} : d_slope_x;
  const vd free_y = (low_y | high_y) ? vd{} : d_slope_y;
  const vd bound_x = d_slope_x - free_x, bound_y = d_slope_y - free_y;
  const vd d_ratio_x = c.fx * d.mean_x + free_x, d_ratio_y = c.fy * d.mean_y + free_y;
  const vd d_x = d_ratio_x * e.inv_z, d_y = d_ratio_y * e.inv_z;
  const vd d_z = d.depth - (along_x + along_y + d_ratio_x * e.ratio_x + d_ratio_y * e.ratio_y) *
                               e.inv_z;

  const vd d_camera[3] = {d_x, d_y, d_z};
  for (int k = 0; k < 3; ++k)
    out.mean[k] = R[k] * d_x + R[3 + k] * d_y + R[6 + k] * d_z;
  out.opacity = d.log_opacity / g.opacity;

  if (!to_camera) return out;
  auto add = [visible](vd& sum, vd value) { sum += visible ? value : vd{}; };
  for (int k = 0; k < 3; ++k) {
    for (int row = 0; row < 3; ++row)
      add(to_camera->rotation[3 * row + k],
          d_camera[row] * g.mean[k] +
              (row == 0   ? fx_z * d_jac_x[k]
               : row == 1 ? fy_z * d_jac_y[k]
                          : -fx_z * e.slope_x * d_jac_x[k] - fy_z * e.slope_y * d_jac_y[k]));
    add(to_camera->translation[k], d_camera[k]);
  }
  add(to_camera->fx, d.mean_x * e.ratio_x + (along_x - bound_x * e.slope_x) / c.fx);
  add(to_camera->fy, d.mean_y * e.ratio_y + (along_y - bound_y * e.slope_y) / c.fy);
  add(to_camera->cx, d.mean_x - bound_x / c.fx);
  add(to_camera->cy, d.mean_y - bound_y / c.fy);
  return out;
}

// Adds up the floats [from, from + count) of the slots of one splat, of which there is one for each
// tile that its box touches.
RECON_INLINE void add_slots(const float* slot, int tiles, int stride, int from, int count,
                            float* sum) {
  slot += from;
  for (int tile = 0; tile < tiles; ++tile, slot += stride)
    for (int k = 0; k < count; ++k) sum[k] += slot[k];
}

// Writes lanes as rows of ``width`` floats to the rows [first, first + kLanes) of a table, up to
// ``end``; or adds them.
template <int width>
RECON_INLINE void write_rows(float* table, int64_t first, int64_t end, bool add, vf a, vf b, vf c,
                             vf d) {
  alignas(16) float rows[kLanes][4];
  float* out[kLanes];
  for (int i = 0; i < kLanes; ++i) out[i] = rows[i];
  store_columns(out, 0, a, b, c, d);
  const int lanes = end - first < kLanes ? (int)(end - first) : kLanes;
  table += width * first;
  for (int i = 0; i < kLanes && i < lanes; ++i, table += width) {
    if (add)
      for (int k = 0; k < width; ++k) rows[i][k] += table[k];
    std::memcpy(table, rows[i], width * sizeof(float));
  }
}

static void project_backward(const Gaussians& scene, const Camera& camera, int64_t begin,
                             int64_t end, const Splat* splats, int shift, const float* slots,
                             bool add, const GaussianGradients& to_scene,
                             CameraGradient* to_camera) {
  CameraGradientLanes camera_lanes = {};
  const int channels = scene.channels, stride = slot_stride(channels);
  for (int64_t first = begin; first < end; first += kLanes) {
    const int lanes = end - first < kLanes ? (int)(end - first) : kLanes;
    // The first slot's worth of every sum; with other than three channels, moments and depth alone.
    alignas(64) float sums[kLanes][16];
    alignas(64) static const float kNothing[16] = {};
    const float *rows[kLanes], *shapes[kLanes];
    vi visible = {};
    for (int i = 0; i < kLanes; ++i) {
      const Splat& splat = splats[first + (i < lanes ? i : 0)];
      shapes[i] = &splat.x;
      rows[i] = kNothing;
      float* const color = to_scene.colors + (first + i) * channels;
      if (i < lanes && channels != 3 && !add)
        for (int c = 0; c < channels; ++c) color[c] = 0;
      if (i >= lanes || splat.left > splat.right) continue;
      visible[i] = -1;
      const int tiles = ((splat.right >> shift) - (splat.left >> shift) + 1) *
                        ((splat.bottom >> shift) - (splat.top >> shift) + 1);
      const float* slot = slots + (int64_t)splat.first_slot * stride;
      if (tiles == 1 && channels == 3) {
        rows[i] = slot;
        continue;
      }
      rows[i] = sums[i];
      std::memcpy(sums[i], kNothing, sizeof kNothing);
      if (channels == 3) {
        add_slots(slot, tiles, stride, 0, 16, sums[i]);
      } else {
        add_slots(slot, tiles, stride, 0, kMoments, sums[i]);
        add_slots(slot, tiles, stride, kSlotValues + channels, 1, sums[i] + kSlotValues + 3);
        add_slots(slot, tiles, stride, kSlotValues, channels, color);
      }
    }
    vf low[4], high[4], values[4], place[4], shape[4], unused[4];
    load_columns(rows, 0, low);
    load_columns(rows, 4, high);
    load_columns(rows, 8, values);
    load_columns(shapes, 0, place);
    load_columns(shapes, 4, shape);
    if (channels == 3)
      write_rows<3>(to_scene.colors, first, end, add, values[0], values[1], values[2], vf{});

    const vf narrow_moments[kMoments] = {low[0], low[1], low[2], low[3], high[0], high[1]};
    vd moments[kMoments][2], depth[2], ux[2], uy[2], wy[2], seen[2];
    for (int k = 0; k < kMoments; ++k) widen(narrow_moments[k], moments[k]);
    widen(values[3], depth);
    widen(place[2], ux);
    widen(place[3], uy);
    widen(shape[0], wy);
    widen(__builtin_convertvector(visible, vf), seen);
    GaussianLanes g[2];
    load_gaussians(scene, first, end, g, unused);
    GaussianGradientLanes out[2];
    for (int half = 0; half < 2; ++half) {
      vd of_half[kMoments];
      for (int k = 0; k < kMoments; ++k) of_half[k] = moments[k][half];
      out[half] = pull_back(g[half], project_lanes(g[half], camera), camera,
                            unwhiten(of_half, ux[half], uy[half], wy[half], depth[half]),
                            seen[half] != 0.0, to_camera ? &camera_lanes : nullptr);
    }
    const GaussianGradientLanes &a = out[0], &b = out[1];
    const auto shown = [&](vd low_half, vd high_half) {
      return (vf)(visible & (vi)narrow(low_half, high_half));
    };
    write_rows<3>(to_scene.means, first, end, add, shown(a.mean[0], b.mean[0]),
                  shown(a.mean[1], b.mean[1]), shown(a.mean[2], b.mean[2]), vf{});
    write_rows<4>(to_scene.quats, first, end, add, shown(a.quat[0], b.quat[0]),
                  shown(a.quat[1], b.quat[1]), shown(a.quat[2], b.quat[2]),
                  shown(a.quat[3], b.quat[3]));
    write_rows<3>(to_scene.scales, first, end, add, shown(a.scale[0], b.scale[0]),
                  shown(a.scale[1], b.scale[1]), shown(a.scale[2], b.scale[2]), vf{});
    write_rows<1>(to_scene.opacities, first, end, add, shown(a.opacity, b.opacity), vf{}, vf{},
                  vf{});
  }
  if (!to_camera) return;
  for (int k = 0; k < 9; ++k) to_camera->rotation[k] += sum_lanes(camera_lanes.rotation[k]);
  for (int k = 0; k < 3; ++k) to_camera->translation[k] += sum_lanes(camera_lanes.translation[k]);
  to_camera->fx += sum_lanes(camera_lanes.fx);
  to_camera->fy += sum_lanes(camera_lanes.fy);
  to_camera->cx += sum_lanes(camera_lanes.cx);
  to_camera->cy += sum_lanes(camera_lanes.cy);
}

}  // namespace RECON_ISA
}  // namespace recon
