// Functions of vectors, each as exact as its users need.
#pragma once

#include "simd.h"

namespace recon {
namespace RECON_ISA {

// 2^t for t in [-126, 1], to 3e-6 of it: a minimax polynomial of degree 4 in what is beyond a whole
// number, and a shift. Lanes with another t hold nonsense. Several vectors, step by step: the steps of one wait
// for each other.
template <int n>
RECON_INLINE void exp2_small(const vf (&t)[n], vf (&out)[n]) {
  vf fraction[n];
#if defined(__AVX512F__)  // beyond the next lower one, in [0, 1)
  constexpr float kTerms[] = {1.353416791e-2f, 5.201146062e-2f, 2.414427569e-1f, 6.930038345e-1f,
                              1.000002593f};
  for (int i = 0; i < n; ++i) fraction[i] = _mm512_reduce_ps(t[i], _MM_FROUND_TO_NEG_INF);
#else  // beyond the nearest one, in [-1/2, 1/2]
  constexpr float kTerms[] = {9.570101911e-3f, 5.591786032e-2f, 2.402474483e-1f, 6.931218147e-1f,
                              0.9999992614f};
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  vf shifted[n];
  for (int i = 0; i < n; ++i) shifted[i] = t[i] + kRounder;
  for (int i = 0; i < n; ++i) fraction[i] = t[i] - (shifted[i] - kRounder);
#endif
  for (int i = 0; i < n; ++i) out[i] = all(kTerms[0]);
  for (int term = 1; term < 5; ++term)
    for (int i = 0; i < n; ++i) out[i] = out[i] * fraction[i] + kTerms[term];
  for (int i = 0; i < n; ++i)
#if defined(__AVX512F__)
    out[i] = _mm512_scalef_ps(out[i], t[i]);  // by 2^floor(t)
#else
    out[i] = (vf)((vu)out[i] + ((vu)shifted[i] << 23));
#endif
}

// Or a little more, by 4e-4 of it at most, which is faster.
RECON_INLINE vf square_root_above(vf x) {
#if defined(__AVX512F__)
  return x * _mm512_rsqrt14_ps(larger(x, all(1e-30f))) * 1.0002f;
#elif defined(__AVX2__)
  return x * _mm256_rsqrt_ps(larger(x, all(1e-30f))) * 1.0004f;
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// log2(x) for normal x > 0, to 1e-9: exponent, and the series of artanh for the mantissa.
RECON_INLINE vd log2_normal(vd x) {
  const vl bits = (vl)x;
  const vl one = (vl)all(1.0);
  vd mantissa = (vd)((bits & 0xfffffffffffff) | one);  // [1, 2)
  // The biased exponent as a double: it goes into the low bits of 2^52.
  vd exponent = (vd)(((bits >> 52) & 0x7ff) | (vl)all(4503599627370496.0)) - 4503599627371519.0;
  const vl large = mantissa > 1.4142135623730951;
  mantissa = large ? mantissa * 0.5 : mantissa;
  exponent = large ? exponent + 1.0 : exponent;
  const vd s = (mantissa - 1.0) / (mantissa + 1.0), s2 = s * s;
  const vd series =
      1.0 + s2 * (1.0 / 3 + s2 * (1.0 / 5 + s2 * (1.0 / 7 + s2 * (1.0 / 9 + s2 * (1.0 / 11)))));
  return exponent + 2.8853900817779268 * s * series;  // 2 / ln 2
}

// The same to 5e-7.
RECON_INLINE vf log2_normal(vf x) {
  const vi bits = (vi)x;
  const vf mantissa = (vf)((bits & 0x7fffff) | 0x3f800000);  // [1, 2)
  const vi large = mantissa > 1.41421356f;
  const vf m = large ? mantissa * 0.5f : mantissa;
  const vf exponent = __builtin_convertvector(((bits >> 23) & 0xff) - 127 - large, vf);
  const vf s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  const vf series = 1.0f + s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7)));
  return exponent + 2.88539008f * s * series;
}

RECON_INLINE vf square_root(vf x) {
#if defined(__AVX512F__)
  return _mm512_sqrt_ps(x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// To float32's precision, which takes a third of the time.
RECON_INLINE vd square_root(vd x) {
#if defined(__AVX512F__)
  return _mm512_cvtps_pd(_mm256_sqrt_ps(_mm512_cvtpd_ps(x)));
#elif defined(__AVX2__)
  return _mm256_cvtps_pd(_mm_sqrt_ps(_mm256_cvtpd_ps(x)));
#else
  for (int i = 0; i < kDoubles; ++i) x[i] = __builtin_sqrtf((float)x[i]);
  return x;
#endif
}

template <class V>
RECON_INLINE V clamp(V x, Scalar<V> low, Scalar<V> high) {
  x = x > low ? x : all(low);
  return x < high ? x : all(high);
}

// Of |x| < 2^51: adding 1.5 * 2^52 rounds to a whole number.
RECON_INLINE vd nearest(vd x) { return (x + 6755399441055744.0) - 6755399441055744.0; }
RECON_INLINE vd round_up(vd x) {
  const vd r = nearest(x);
  return r < x ? r + 1.0 : r;
}
RECON_INLINE vd round_down(vd x) {
  const vd r = nearest(x);
  return r > x ? r - 1.0 : r;
}

// Of |x| < 2^22.
RECON_INLINE vf round_up(vf x) {
  const vf r = (x + 12582912.0f) - 12582912.0f;
  return r < x ? r + 1.0f : r;
}

// A vector of floats as two of doubles.
RECON_INLINE void widen(vf a, vd (&out)[2]) {
#if defined(__AVX512F__)
  out[0] = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
  out[1] = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
#elif defined(__AVX2__)
  out[0] = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
  out[1] = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
#else
  out[0] = vd{a[0], a[1]};
  out[1] = vd{a[2], a[3]};
#endif
}
RECON_INLINE vf narrow(vd low, vd high) {
#if defined(__AVX512F__)
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high),
                            1);
#elif defined(__AVX2__)
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                              1);
#else
  return vf{(float)low[0], (float)low[1], (float)high[0], (float)high[1]};
#endif
}

}  // namespace RECON_ISA
}  // namespace recon
