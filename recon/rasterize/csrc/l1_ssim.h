// L1 and SSIM (Wang et al. 2004) of one channel of two pictures, with the gradient: windows of 11 x 11
// pixels, weighed by a Gaussian of sigma 1.5, of which those count that lie inside the picture.
//
// With x = y + d, and means (mu), variances (v) and the covariance (c) of the window's pixels,
//   b1 = mu_x^2 + mu_y^2 + C1,   dark = mu_d^2 / b1,
//   b2 = v_x + v_y + C2 = v_d + 2 (v_y + c_dy) + C2,   unlike = v_d / b2,
//   SSIM = (1 - dark) (1 - unlike),
// where, of pictures that agree, nothing is the small difference of large numbers. Nor are moments:
// E[y^2] - E[y]^2 of a flat region would be all rounding in float32. They are taken about means, first
// within every row of a window, then over its rows, where each adds the square of its own mean's
// distance (the parallel axis theorem).
//
// Pictures are streamed row by row: of each, what other rows still need is kept in rings of 11.
#pragma once

#include "functions.h"

namespace recon {
namespace RECON_ISA {

constexpr int kTaps = kWindowSide;
constexpr float kWindow[kTaps] = {0.00102838008f, 0.00759875814f, 0.0360007721f, 0.109360690f,
                                  0.213005538f,   0.266011725f,   0.213005538f,  0.109360690f,
                                  0.0360007721f,  0.00759875814f, 0.00102838008f};

// Anywhere, aligned or not.
RECON_INLINE vf load_from(const float* at) {
  vf a;
  std::memcpy(&a, at, sizeof a);
  return a;
}
RECON_INLINE void store_to(float* at, vf a) { std::memcpy(at, &a, sizeof a); }

// The last kTaps rows of some maps.
struct RowRing {
  float* base;
  int64_t maps, stride;

  RECON_INLINE float* row(int64_t row, int map) const {
    return base + ((row % kTaps) * maps + map) * stride;
  }
  RECON_INLINE float* behind() const { return base + kTaps * maps * stride; }
};

enum { kD, kY, kCounts, kPixelMaps };                     // of a row of pixels
enum { kMeanD, kMeanY, kVarD, kVarY, kCov, kMomentMaps }; // of one row of every window
enum { kOne, kTimesD, kTimesY, kPullMaps };               // of a gradient a + e d + f y
static_assert(kTaps * (kPixelMaps + kMomentMaps + kPullMaps) + kPullMaps + 1 == kLossRows,
              "the scratch holds three rings, a row of pulls, and a row of the gradient");

RECON_INLINE void read_pixels(const LossPlane& p, int64_t row, const RowRing& pixels) {
  const float* const prediction = p.prediction.data + row * p.prediction.row_stride;
  const float* const target = p.target.data + row * p.target.row_stride;
  float *const d = pixels.row(row, kD), *const y = pixels.row(row, kY);
  float* const counts = pixels.row(row, kCounts);
  for (int64_t i = 0; i < p.width; ++i) {
    y[i] = target[i * p.target.pixel_stride];
    d[i] = prediction[i * p.prediction.pixel_stride] - y[i];
    counts[i] = 1;
  }
  if (!p.mask) return;
  for (int64_t i = 0; i < p.width; ++i) {
    const bool count = p.mask[row * p.width + i];
    counts[i] = count;
    d[i] = count ? d[i] : 0;
  }
}

// Moments of one row of every window.
RECON_INLINE void moments_along(const LossPlane& p, int64_t row, const RowRing& pixels,
                                const RowRing& moments) {
  const float *const d = pixels.row(row, kD), *const y = pixels.row(row, kY);
  for (int64_t i = 0; i <= p.width - kTaps; i += kLanes) {
    vf mean_d = {}, mean_y = {}, var_d = {}, var_y = {}, cov = {};
    for (int k = 0; k < kTaps; ++k) {
      mean_d += kWindow[k] * load_from(d + i + k);
      mean_y += kWindow[k] * load_from(y + i + k);
    }
    for (int k = 0; k < kTaps; ++k) {
      const vf off_d = load_from(d + i + k) - mean_d, off_y = load_from(y + i + k) - mean_y;
      const vf weighed_d = kWindow[k] * off_d, weighed_y = kWindow[k] * off_y;
      var_d += weighed_d * off_d;
      var_y += weighed_y * off_y;
      cov += weighed_d * off_y;
    }
    store_to(moments.row(row, kMeanD) + i, mean_d);
    store_to(moments.row(row, kMeanY) + i, mean_y);
    store_to(moments.row(row, kVarD) + i, var_d);
    store_to(moments.row(row, kVarY) + i, var_y);
    store_to(moments.row(row, kCov) + i, cov);
  }
}

// The windows whose first row is ``row``: returns the sum of 1 - SSIM over those that count. Of each
// it writes a, e and f: what a pixel weighs in it times a + e d + f y is the gradient of 1 - SSIM.
RECON_INLINE double windows_along(const LossPlane& p, int64_t row, const RowRing& pixels,
                                  const RowRing& moments, float* const (&pull)[kPullMaps]) {
  constexpr float c1 = 1e-4f, c2 = 9e-4f;
  const float* const counts = pixels.row(row + kTaps / 2, kCounts) + kTaps / 2;
  const int64_t count = p.width - kTaps + 1;
  const float* rows[kTaps][kMomentMaps];
  for (int k = 0; k < kTaps; ++k)
    for (int map = 0; map < kMomentMaps; ++map) rows[k][map] = moments.row(row + k, map);
  vf sum = {};
  for (int64_t i = 0; i < count; i += kLanes) {
    vf d = {}, y = {}, var_d = {}, var_y = {}, cov = {};
    for (int k = 0; k < kTaps; ++k) {
      d += kWindow[k] * load_from(rows[k][kMeanD] + i);
      y += kWindow[k] * load_from(rows[k][kMeanY] + i);
    }
    for (int k = 0; k < kTaps; ++k) {
      const vf off_d = load_from(rows[k][kMeanD] + i) - d;
      const vf off_y = load_from(rows[k][kMeanY] + i) - y;
      var_d += kWindow[k] * (load_from(rows[k][kVarD] + i) + off_d * off_d);
      var_y += kWindow[k] * (load_from(rows[k][kVarY] + i) + off_y * off_y);
      cov += kWindow[k] * (load_from(rows[k][kCov] + i) + off_d * off_y);
    }
    const vf x = y + d, per_b1 = 1.0f / (x * x + y * y + c1);
    const vf per_b2 = 1.0f / (var_d + 2.0f * (var_y + cov) + c2);
    const vf dark = d * d * per_b1, unlike = var_d * per_b2;
    const vf luminance = 1.0f - dark, contrast = 1.0f - unlike;
    const vi inside = lanes_before(count - i);
    const vf weight = load_from(counts + i);
    sum += inside ? weight * (dark + luminance * unlike) : vf{};
    if (!p.gradient.data) continue;
    const vf to_mean = 2.0f * contrast * per_b1 * (d - x * dark);
    const vf scale = 2.0f * luminance * per_b2, e = scale * contrast, f = -scale * unlike;
    store_to(pull[kOne] + i, inside ? weight * (to_mean - e * d - f * y) : vf{});
    store_to(pull[kTimesD] + i, inside ? weight * e : vf{});
    store_to(pull[kTimesY] + i, inside ? weight * f : vf{});
  }
  double total = 0;
  for (int i = 0; i < kLanes; ++i) total += sum[i];
  return total;
}

// What a row of windows pulls at each pixel of any of its rows. ``pull`` has kTaps - 1 zeros before it
// and behind it.
RECON_INLINE void pull_along(const LossPlane& p, float* const (&pull)[kPullMaps], int64_t row,
                             const RowRing& pulls) {
  for (int map = 0; map < kPullMaps; ++map) {
    const float* const from = pull[map] - (kTaps - 1);
    float* const to = pulls.row(row, map);
    for (int64_t i = 0; i < p.width; i += kLanes) {
      vf sum = {};
      for (int k = 0; k < kTaps; ++k) sum += kWindow[k] * load_from(from + i + k);
      store_to(to + i, sum);
    }
  }
}

// Returns the row's sum of absolute differences, and writes its gradient, all windows being done.
RECON_INLINE double finish_pixels(const LossPlane& p, int64_t row, const RowRing& pixels,
                                  const RowRing& pulls, float* gradient) {
  const float *const d = pixels.row(row, kD), *const y = pixels.row(row, kY);
  const float* const counts = pixels.row(row, kCounts);
  // Windows begin in the rows [first, last] to reach this one.
  const int64_t first = row < kTaps ? 0 : row - (kTaps - 1);
  const int64_t last = row < p.height - kTaps ? row : p.height - kTaps;
  vf sum = {};
  for (int64_t i = 0; i < p.width; i += kLanes) {
    const vf difference = load_from(d + i);
    const vi inside = lanes_before(p.width - i);
    sum += inside ? (vf)((vi)difference & 0x7fffffff) : vf{};
    if (!p.gradient.data) continue;
    vf one = {}, times_d = {}, times_y = {};
    for (int64_t from = first; from <= last; ++from) {
      const float weight = kWindow[row - from];
      one += weight * load_from(pulls.row(from, kOne) + i);
      times_d += weight * load_from(pulls.row(from, kTimesD) + i);
      times_y += weight * load_from(pulls.row(from, kTimesY) + i);
    }
    const vf of_ssim = one + times_d * difference + times_y * load_from(y + i);
    const vf sign = difference > 0.0f ? all(1.0f) : difference < 0.0f ? all(-1.0f) : vf{};
    store_to(gradient + i,
             load_from(counts + i) * (p.l1_scale * sign + p.ssim_scale * of_ssim));
  }
  if (p.gradient.data) {
    float* const out = p.gradient.data + row * p.gradient.row_stride;
    for (int64_t i = 0; i < p.width; ++i) out[i * p.gradient.pixel_stride] = gradient[i];
  }
  double total = 0;
  for (int i = 0; i < kLanes; ++i) total += sum[i];
  return total;
}

static void l1_ssim(const LossPlane& p, int64_t begin, int64_t end, float* scratch, double* l1,
                    double* ssim) {
  const int64_t stride = loss_row(p.width);
  const RowRing pixels = {scratch, kPixelMaps, stride};
  const RowRing moments = {pixels.behind(), kMomentMaps, stride};
  const RowRing pulls = {moments.behind(), kPullMaps, stride};
  float* const rows = pulls.behind();
  std::memset(scratch, 0, (size_t)loss_scratch(p.width) * sizeof(float));
  float* const pull[kPullMaps] = {rows + kTaps - 1, rows + stride + kTaps - 1,
                                  rows + 2 * stride + kTaps - 1};
  *l1 = *ssim = 0;
  const int64_t first = begin < kTaps ? 0 : begin - (kTaps - 1);
  for (int64_t row = first; row < end + kTaps - 1; ++row) {
    if (row < p.height) {
      read_pixels(p, row, pixels);
      moments_along(p, row, pixels, moments);
    }
    const int64_t done = row - (kTaps - 1);  // as a row of pixels, and as one of windows
    if (done < first) continue;
    if (row < p.height) {
      const double here = windows_along(p, done, pixels, moments, pull);
      if (done >= begin) *ssim += here;
      if (p.gradient.data) pull_along(p, pull, done, pulls);
    }
    if (done >= begin) *l1 += finish_pixels(p, done, pixels, pulls, rows + kPullMaps * stride);
  }
}

}  // namespace RECON_ISA
}  // namespace recon
