// Colours from spherical harmonics: real, of degree 0 to 3, in the order and with the signs of gsplat
// and of the original 3DGS code.
//
//   color = max(0, 0.5 + sum_k coefficient_k basis_k(d)),   d = (mean - centre) / |mean - centre|
#pragma once

#include "ewa.h"

namespace recon {
namespace RECON_ISA {

constexpr int kMaxBases = 16;

// Where Gaussians are seen: unit vectors from the camera's centre, and 1 / distance.
struct Sight {
  vf x, y, z, inv_distance;
};

RECON_INLINE Sight sight_of(const GaussianLanes& g, const Place<vd> (&p)[2], const Camera& c) {
  // In units of the camera z, which is known to lie between the planes: no square leaves float32's
  // range but that of a direction no picture holds.
  constexpr double kFar = 1e18;
  vd scaled[3][2];
  for (int half = 0; half < 2; ++half) {
    const Lanes<vd> lanes = half_of(g, half);
    for (int k = 0; k < 3; ++k)
      scaled[k][half] = clamp((lanes.mean[k] - c.centre[k]) * p[half].inv_z, -kFar, kFar);
  }
  const vf x = narrow(scaled[0][0], scaled[0][1]), y = narrow(scaled[1][0], scaled[1][1]);
  const vf z = narrow(scaled[2][0], scaled[2][1]);
  const vf inv_length = 1.0f / square_root(x * x + y * y + z * z);
  return {x * inv_length, y * inv_length, z * inv_length,
          narrow(p[0].inv_z, p[1].inv_z) * inv_length};
}

template <int degree>
RECON_INLINE void bases_at(const Sight& s, vf (&b)[kMaxBases]) {
  for (int k = 0; k < kMaxBases; ++k) b[k] = vf{};
  const vf x = s.x, y = s.y, z = s.z;
  b[0] = all(0.28209479177387814f);
  if (degree < 1) return;
  b[1] = -0.4886025119029199f * y;
  b[2] = 0.4886025119029199f * z;
  b[3] = -0.4886025119029199f * x;
  if (degree < 2) return;
  const vf xx = x * x, yy = y * y, zz = z * z, xy = x * y;
  b[4] = 1.0925484305920792f * xy;
  b[5] = -1.0925484305920792f * y * z;
  b[6] = 0.9461746957575601f * zz - 0.31539156525252005f;
  b[7] = -1.0925484305920792f * x * z;
  b[8] = 0.5462742152960396f * (xx - yy);
  if (degree < 3) return;
  const vf along_z = 0.4570457994644658f - 2.285228997322329f * zz;
  b[9] = -0.5900435899266435f * y * (3.0f * xx - yy);
  b[10] = 2.890611442640554f * xy * z;
  b[11] = along_z * y;
  b[12] = z * (1.865881662950577f * zz - 1.1195289977703462f);
  b[13] = along_z * x;
  b[14] = 1.445305721320277f * z * (xx - yy);
  b[15] = -0.5900435899266435f * x * (xx - 3.0f * yy);
}

// The gradient of a sum of bases, each with a weight, with respect to the direction, as if that could
// leave the sphere.
template <int degree>
RECON_INLINE void bases_backward(const Sight& s, const vf (&w)[kMaxBases], vf (&out)[3]) {
  const vf x = s.x, y = s.y, z = s.z;
  for (int k = 0; k < 3; ++k) out[k] = vf{};
  if (degree < 1) return;
  out[0] = -0.4886025119029199f * w[3];
  out[1] = -0.4886025119029199f * w[1];
  out[2] = 0.4886025119029199f * w[2];
  if (degree < 2) return;
  constexpr float k2 = 1.0925484305920792f;
  out[0] += k2 * (y * w[4] - z * w[7] + x * w[8]);
  out[1] += k2 * (x * w[4] - z * w[5] - y * w[8]);
  out[2] += 1.8923493915151202f * z * w[6] - k2 * (y * w[5] + x * w[7]);
  if (degree < 3) return;
  constexpr float k3 = 1.7701307697799305f, k4 = 2.890611442640554f;  // 3 * 0.59, 2 * 1.445
  const vf xy = x * y, difference = x * x - y * y;
  const vf along_z = 0.4570457994644658f - 2.285228997322329f * z * z;
  out[0] += -k3 * (2.0f * xy * w[9] + difference * w[15]) + k4 * z * (y * w[10] + x * w[14]) +
            along_z * w[13];
  out[1] += -k3 * (difference * w[9] - 2.0f * xy * w[15]) + k4 * z * (x * w[10] - y * w[14]) +
            along_z * w[11];
  out[2] += k4 * (xy * w[10] + 0.5f * difference * w[14]) -
            4.570457994644658f * z * (y * w[11] + x * w[13]) +
            (5.597644988851731f * z * z - 1.1195289977703462f) * w[12];
}

// The coefficients of kLanes Gaussians, or their gradients, a row each.
template <int degree>
struct CoefficientRows {
  static constexpr int kBases = (degree + 1) * (degree + 1), kFloats = 3 * kBases;
  // Four bases of three channels are three quads: they are read and written together.
  static constexpr int kGroups = (kBases + 3) / 4, kPadded = 12 * kGroups;

  alignas(64) float rows[kLanes][kPadded];

  // Reads those of the Gaussians from ``first`` on, zeros for those not ``wanted``.
  RECON_INLINE void read(const float* table, int64_t first, vi wanted) {
    for (int i = 0; i < kLanes; ++i) {
      std::memset(rows[i], 0, sizeof rows[i]);
      if (wanted[i]) std::memcpy(rows[i], table + (first + i) * kFloats, kFloats * sizeof(float));
    }
  }
  // Writes, or adds, all up to ``end``.
  RECON_INLINE void write(float* table, int64_t first, int64_t end, bool add) const {
    for (int i = 0; i < kLanes && first + i < end; ++i) {
      float* const to = table + (first + i) * kFloats;
      if (add)
        for (int k = 0; k < kFloats; ++k) to[k] += rows[i][k];
      else
        std::memcpy(to, rows[i], kFloats * sizeof(float));
    }
  }
  // Channel c of basis 4 group + k as out[k][c].
  RECON_INLINE void load_group(int group, vf (&out)[4][3]) const {
    const float* at[kLanes];
    for (int i = 0; i < kLanes; ++i) at[i] = rows[i] + 12 * group;
    vf columns[3][4];
    for (int quad = 0; quad < 3; ++quad) load_columns(at, 4 * quad, columns[quad]);
    for (int k = 0; k < 12; ++k) out[k / 3][k % 3] = columns[k / 4][k % 4];
  }
  RECON_INLINE void store_group(int group, const vf (&in)[4][3]) {
    float* at[kLanes];
    for (int i = 0; i < kLanes; ++i) at[i] = rows[i] + 12 * group;
    store_columns(at, 0, in[0][0], in[0][1], in[0][2], in[1][0]);
    store_columns(at, 4, in[1][1], in[1][2], in[2][0], in[2][1]);
    store_columns(at, 8, in[2][2], in[3][0], in[3][1], in[3][2]);
  }
};

// The colour before it is cut off at zero.
template <int degree>
RECON_INLINE void sum_bases(const CoefficientRows<degree>& rows, const vf (&bases)[kMaxBases],
                            vf (&color)[3]) {
  for (int c = 0; c < 3; ++c) color[c] = all(0.5f);
  for (int group = 0; group < rows.kGroups; ++group) {
    vf coefficients[4][3];
    rows.load_group(group, coefficients);
    for (int k = 0; k < 4; ++k)
      for (int c = 0; c < 3; ++c) color[c] += bases[4 * group + k] * coefficients[k][c];
  }
}

// The coefficients are all finite, and so small that no direction gives a colour that is not.
template <int degree>
RECON_INLINE vi bounded(const CoefficientRows<degree>& rows) {
  vf finite = {};  // 0, or NaN
  vf sums[3] = {};
  for (int group = 0; group < rows.kGroups; ++group) {
    vf coefficients[4][3];
    rows.load_group(group, coefficients);
    for (int k = 0; k < 4; ++k)
      for (int c = 0; c < 3; ++c) sums[c] += (vf)((vi)coefficients[k][c] & 0x7fffffff);
  }
  for (int c = 0; c < 3; ++c) finite += 4.0f * sums[c] * 0.0f;  // no basis exceeds 4
  return finite == 0.0f;
}

template <int degree>
static vi shade_degree(const Gaussians& scene, int64_t first, vi wanted, const Sight& sight,
                       vf (&color)[3]) {
  CoefficientRows<degree> rows;
  rows.read(scene.colors, first, wanted);
  vf bases[kMaxBases];
  bases_at<degree>(sight, bases);
  sum_bases(rows, bases, color);
  for (int c = 0; c < 3; ++c) color[c] = larger(color[c], vf{});
  return wanted & bounded(rows);
}

// Colours of the Gaussians from ``first`` on that are ``wanted``; of those, returns which have one.
RECON_INLINE vi shade(const Gaussians& scene, int64_t first, vi wanted, const Sight& sight,
                      vf (&color)[3]) {
  auto* run = scene.sh_degree == 0   ? shade_degree<0>
              : scene.sh_degree == 1 ? shade_degree<1>
              : scene.sh_degree == 2 ? shade_degree<2>
                                     : shade_degree<3>;
  return run(scene, first, wanted, sight, color);
}

template <int degree>
static void shade_backward_degree(const Gaussians& scene, int64_t first, int64_t end, vi visible,
                                  const Sight& sight, vf (&to_color)[3], bool add,
                                  float* to_coefficients, vf (&to_mean)[3]) {
  CoefficientRows<degree> rows;
  rows.read(scene.colors, first, visible);
  vf bases[kMaxBases], color[3], weights[kMaxBases];
  bases_at<degree>(sight, bases);
  sum_bases(rows, bases, color);
  for (int c = 0; c < 3; ++c)
    to_color[c] = (vf)(visible & (color[c] >= 0.0f) & (vi)to_color[c]);
  for (int group = 0; group < rows.kGroups; ++group) {
    vf coefficients[4][3];
    rows.load_group(group, coefficients);
    for (int k = 0; k < 4; ++k) {
      const vf basis = (vf)(visible & (vi)bases[4 * group + k]);
      weights[4 * group + k] = vf{};
      for (int c = 0; c < 3; ++c) {
        weights[4 * group + k] += coefficients[k][c] * to_color[c];
        coefficients[k][c] = basis * to_color[c];
      }
    }
    rows.store_group(group, coefficients);
  }
  rows.write(to_coefficients, first, end, add);
  vf d[3];
  bases_backward<degree>(sight, weights, d);
  // What would change the length falls away.
  const vf radial = d[0] * sight.x + d[1] * sight.y + d[2] * sight.z;
  const vf unit[3] = {sight.x, sight.y, sight.z};
  for (int k = 0; k < 3; ++k)
    to_mean[k] = (vf)(visible & (vi)((d[k] - unit[k] * radial) * sight.inv_distance));
}

// From gradients of colours to those of the coefficients [first, end), overwritten or added to, and
// through the direction to the means (and, with the other sign, to the camera's centre).
RECON_INLINE void shade_backward(const Gaussians& scene, int64_t first, int64_t end, vi visible,
                                 const Sight& sight, vf (&to_color)[3], bool add,
                                 float* to_coefficients, vf (&to_mean)[3]) {
  auto* run = scene.sh_degree == 0   ? shade_backward_degree<0>
              : scene.sh_degree == 1 ? shade_backward_degree<1>
              : scene.sh_degree == 2 ? shade_backward_degree<2>
                                     : shade_backward_degree<3>;
  run(scene, first, end, visible, sight, to_color, add, to_coefficients, to_mean);
}

}  // namespace RECON_ISA
}  // namespace recon
