// Gradients of splats back to the scene and to the camera: the derivative of ewa.h, in reverse.
#pragma once

#include "project.h"

namespace recon {
namespace RECON_ISA {

// Gradients of the projection's outputs, one Gaussian in each lane; 0 where it is not visible.
template <class V>
struct SplatGradient {
  V mean_x, mean_y;
  V cov_xx, cov_xy, cov_yy;  // twice the gradient of the symmetric matrix
  V log_opacity, depth;
};

// Turns moments of the flow f = d loss / d log alpha over a splat's pixels into gradients:
//   d log alpha / d mean  = Sigma^-1 d         = L^T v / s
//   d log alpha / d Sigma = Sigma^-1 d d^T Sigma^-1 / 2 = L^T v v^T L / (2 s^2),
// where v = (u, w) = L d and s = log2(e) / 2 is the scale that u and w carry.
template <class V>
RECON_INLINE SplatGradient<V> unwhiten(const V (&moments)[kMoments], const Conic<V>& conic,
                                       V depth) {
  typedef Scalar<V> S;
  constexpr S kInverseScale = (S)1.3862943611198906;  // 2 ln 2
  constexpr S k2 = kInverseScale * kInverseScale;
  const V ux = conic.ux, uy = conic.uy, wy = conic.wy;
  const V m = moments[0], mu = moments[1], mw = moments[2];
  const V muu = moments[3], muw = moments[4], mww = moments[5];
  SplatGradient<V> g;
  g.mean_x = kInverseScale * ux * mu;
  g.mean_y = kInverseScale * (uy * mu + wy * mw);
  g.cov_xx = k2 * ux * ux * muu;
  g.cov_xy = k2 * ux * (uy * muu + wy * muw);
  g.cov_yy = k2 * (uy * uy * muu + (S)2 * uy * wy * muw + wy * wy * mww);
  g.log_opacity = m;
  g.depth = depth;
  return g;
}

template <class V>
struct CameraGradientLanes {
  V rotation[9], translation[3], centre[3], fx, fy, cx, cy;
};

template <class V>
struct GradientLanes {
  V mean[3], quat[4], scale[3], opacity;
};

template <class V>
RECON_INLINE GradientLanes<V> pull_back(const Lanes<V>& g, const Place<V>& p, const Shape<V>& e,
                                        const Camera& c, const SplatGradient<V>& d,
                                        Whole<V> visible, CameraGradientLanes<V>* to_camera) {
  typedef Scalar<V> S;
  S R[9];
  for (int k = 0; k < 9; ++k) R[k] = (S)c.rotation[k];
  const S fx = (S)c.fx, fy = (S)c.fy;
  // Sigma = A A^T: dA = 2 dSigma A.
  V d_root_x[3], d_root_y[3];
  for (int j = 0; j < 3; ++j) {
    d_root_x[j] = d.cov_xx * e.root_x[j] + d.cov_xy * e.root_y[j];
    d_root_y[j] = d.cov_xy * e.root_x[j] + d.cov_yy * e.root_y[j];
  }
  // A = jac turn diag(scale).
  GradientLanes<V> out;
  V d_turn[9], d_jac_x[3], d_jac_y[3];
  for (int k = 0; k < 3; ++k) d_jac_x[k] = d_jac_y[k] = V{};
  for (int j = 0; j < 3; ++j) {
    out.scale[j] = V{};
    for (int k = 0; k < 3; ++k) {
      const V d_kj = e.jac_x[k] * d_root_x[j] + e.jac_y[k] * d_root_y[j];
      out.scale[j] += d_kj * e.turn[3 * k + j];
      d_turn[3 * k + j] = d_kj * g.scale[j];
      d_jac_x[k] += d_root_x[j] * g.scale[j] * e.turn[3 * k + j];
      d_jac_y[k] += d_root_y[j] * g.scale[j] * e.turn[3 * k + j];
    }
  }

  // The rotation matrix as if of a unit quaternion; then what changes its length falls away. Both
  // steps divide by the length once.
  const V qw = g.quat[0], qx = g.quat[1], qy = g.quat[2], qz = g.quat[3];
  const V* t = d_turn;
  const V d_unit[4] = {
      (S)2 * (qx * (t[7] - t[5]) + qy * (t[2] - t[6]) + qz * (t[3] - t[1])),
      (S)2 * (qw * (t[7] - t[5]) + qy * (t[1] + t[3]) + qz * (t[2] + t[6]) -
             (S)2 * qx * (t[4] + t[8])),
      (S)2 * (qw * (t[2] - t[6]) + qx * (t[1] + t[3]) + qz * (t[5] + t[7]) -
             (S)2 * qy * (t[0] + t[8])),
      (S)2 * (qw * (t[3] - t[1]) + qx * (t[2] + t[6]) + qy * (t[5] + t[7]) -
             (S)2 * qz * (t[0] + t[4]))};
  const V radial =
      (qw * d_unit[0] + qx * d_unit[1] + qy * d_unit[2] + qz * d_unit[3]) * e.inv_squared;
  for (int k = 0; k < 4; ++k) out.quat[k] = (d_unit[k] - g.quat[k] * radial) * e.inv_squared;

  // jac_x = fx / z (R_0 - slope_x R_2), jac_y likewise; mean = f ratio + c.
  const V fx_z = fx * p.inv_z, fy_z = fy * p.inv_z;
  V d_slope_x = {}, d_slope_y = {}, along_x = {}, along_y = {};
  for (int k = 0; k < 3; ++k) {
    d_slope_x -= fx_z * d_jac_x[k] * R[6 + k];
    d_slope_y -= fy_z * d_jac_y[k] * R[6 + k];
    along_x += d_jac_x[k] * e.jac_x[k];
    along_y += d_jac_y[k] * e.jac_y[k];
  }
  const SlopeBounds bounds = slope_bounds(c);
  const Whole<V> low_x = (S)bounds.low_x > p.ratio_x, high_x = p.ratio_x > (S)bounds.high_x;
  const Whole<V> low_y = (S)bounds.low_y > p.ratio_y, high_y = p.ratio_y > (S)bounds.high_y;
  // Beyond a bound the slope follows the bound, which follows the intrinsics.
  const V free_x = (low_x | high_x) ? V{} : d_slope_x;
  const V free_y = (low_y | high_y) ? V{} : d_slope_y;
  const V bound_x = d_slope_x - free_x, bound_y = d_slope_y - free_y;
  const V d_ratio_x = fx * d.mean_x + free_x, d_ratio_y = fy * d.mean_y + free_y;
  const V d_x = d_ratio_x * p.inv_z, d_y = d_ratio_y * p.inv_z;
  const V d_z = d.depth - (along_x + along_y + d_ratio_x * p.ratio_x + d_ratio_y * p.ratio_y) *
                               p.inv_z;

  const V d_camera[3] = {d_x, d_y, d_z};
  for (int k = 0; k < 3; ++k)
    out.mean[k] = R[k] * d_x + R[3 + k] * d_y + R[6 + k] * d_z;
  out.opacity = d.log_opacity / g.opacity;

  if (!to_camera) return out;
  auto add = [visible](V& sum, V value) { sum += visible ? value : V{}; };
  for (int k = 0; k < 3; ++k) {
    for (int row = 0; row < 3; ++row)
      add(to_camera->rotation[3 * row + k],
          d_camera[row] * g.mean[k] +
              (row == 0   ? fx_z * d_jac_x[k]
               : row == 1 ? fy_z * d_jac_y[k]
                          : -fx_z * e.slope_x * d_jac_x[k] - fy_z * e.slope_y * d_jac_y[k]));
    add(to_camera->translation[k], d_camera[k]);
  }
  add(to_camera->fx, d.mean_x * p.ratio_x + (along_x - bound_x * e.slope_x) / fx);
  add(to_camera->fy, d.mean_y * p.ratio_y + (along_y - bound_y * e.slope_y) / fy);
  add(to_camera->cx, d.mean_x - bound_x / fx);
  add(to_camera->cy, d.mean_y - bound_y / fy);
  return out;
}

RECON_INLINE GradientLanes<vf> narrow(const GradientLanes<vd>& a, const GradientLanes<vd>& b) {
  GradientLanes<vf> out;
  for (int k = 0; k < 3; ++k) out.mean[k] = narrow(a.mean[k], b.mean[k]);
  for (int k = 0; k < 4; ++k) out.quat[k] = narrow(a.quat[k], b.quat[k]);
  for (int k = 0; k < 3; ++k) out.scale[k] = narrow(a.scale[k], b.scale[k]);
  out.opacity = narrow(a.opacity, b.opacity);
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
                             int64_t end, const uint32_t* first_slots, const float* slots, bool add,
                             const GaussianGradients& to_scene, CameraGradient* to_camera) {
  CameraGradientLanes<vd> camera_lanes = {};
  const int channels = scene.channels, stride = slot_stride(channels);
  for (int64_t first = begin; first < end; first += kLanes) {
    // The first slot's worth of every sum; with other than three channels, moments and depth alone.
    alignas(64) float sums[kLanes][16];
    alignas(64) static const float kNothing[16] = {};
    const float* rows[kLanes];
    vi visible = {};
    for (int i = 0; i < kLanes; ++i) {
      rows[i] = kNothing;
      if (first + i >= end) continue;
      float* const color = to_scene.colors + (first + i) * channels;
      if (channels != 3 && !add)
        for (int c = 0; c < channels; ++c) color[c] = 0;
      const uint32_t number = first_slots[first + i];
      const int tiles = (int)(first_slots[first + i + 1] - number);
      if (tiles == 0) continue;
      visible[i] = -1;
      const float* slot = slots + int64_t{number} * stride;
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
    vf low[4], high[4], values[4];
    load_columns(rows, 0, low);
    load_columns(rows, 4, high);
    load_columns(rows, 8, values);
    if (channels == 3 && scene.sh_degree == kPlainColors)
      write_rows<3>(to_scene.colors, first, end, add, values[0], values[1], values[2], vf{});

    GaussianLanes g;
    load_gaussians(scene, first, end, g);
    Place<vd> places[2];
    for (int half = 0; half < 2; ++half) places[half] = place_of(half_of(g, half).mean, camera);
    const vf moments[kMoments] = {low[0], low[1], low[2], low[3], high[0], high[1]};
    const Place<vf> place = narrow(places[0], places[1]);
    const Shape<vf> shape = shape_of<vf>(g, place, camera);
    GradientLanes<vf> out;
    const bool in_single = !any(visible & ~sound(g, place, shape));
    if (in_single)
      out = pull_back<vf>(g, place, shape, camera,
                          unwhiten(moments, Conic<vf>(shape), values[3]), visible, nullptr);
    // The camera's gradient is a sum over all Gaussians, which may cancel: always in double.
    if (!in_single || to_camera) {
      GradientLanes<vd> halves[2];
      for (int half = 0; half < 2; ++half) {
        const auto widened = [half](vf a) {
          vd both[2];
          widen(a, both);
          return both[half];
        };
        vd of_half[kMoments];
        for (int k = 0; k < kMoments; ++k) of_half[k] = widened(moments[k]);
        const Lanes<vd> lanes = half_of(g, half);
        const Shape<vd> exact = shape_of(lanes, places[half], camera);
        halves[half] = pull_back(lanes, places[half], exact, camera,
                                 unwhiten(of_half, Conic<vd>(exact), widened(values[3])),
                                 widened(__builtin_convertvector(visible, vf)) != 0.0,
                                 to_camera ? &camera_lanes : nullptr);
      }
      if (!in_single) out = narrow(halves[0], halves[1]);
    }
    if (scene.sh_degree != kPlainColors) {
      vf to_color[3] = {values[0], values[1], values[2]}, to_mean[3];
      shade_backward(scene, first, end, visible, sight_of(g, places, camera), to_color, add,
                     to_scene.colors, to_mean);
      for (int k = 0; k < 3; ++k) {
        out.mean[k] += to_mean[k];
        vd halves[2];
        widen(to_mean[k], halves);
        camera_lanes.centre[k] -= halves[0] + halves[1];
      }
    }
    const auto shown = [visible](vf a) { return (vf)(visible & (vi)a); };
    write_rows<3>(to_scene.means, first, end, add, shown(out.mean[0]), shown(out.mean[1]),
                  shown(out.mean[2]), vf{});
    write_rows<4>(to_scene.quats, first, end, add, shown(out.quat[0]), shown(out.quat[1]),
                  shown(out.quat[2]), shown(out.quat[3]));
    write_rows<3>(to_scene.scales, first, end, add, shown(out.scale[0]), shown(out.scale[1]),
                  shown(out.scale[2]), vf{});
    write_rows<1>(to_scene.opacities, first, end, add, shown(out.opacity), vf{}, vf{}, vf{});
  }
  if (!to_camera) return;
  for (int k = 0; k < 9; ++k) to_camera->rotation[k] += sum_lanes(camera_lanes.rotation[k]);
  for (int k = 0; k < 3; ++k) to_camera->translation[k] += sum_lanes(camera_lanes.translation[k]);
  for (int k = 0; k < 3; ++k) to_camera->centre[k] += sum_lanes(camera_lanes.centre[k]);
  to_camera->fx += sum_lanes(camera_lanes.fx);
  to_camera->fy += sum_lanes(camera_lanes.fy);
  to_camera->cx += sum_lanes(camera_lanes.cx);
  to_camera->cy += sum_lanes(camera_lanes.cy);
}

}  // namespace RECON_ISA
}  // namespace recon
