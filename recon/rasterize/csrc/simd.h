// Vectors for the kernels: GCC/Clang vector types for arithmetic, which compile for every machine,
// and a few intrinsics where the compilers do not find the instruction themselves.
//
// Everything lies in the namespace of the instruction set being compiled, and nothing of the
// standard library is used: an inline function shared between instruction sets would be linked
// once, perhaps with instructions that the machine does not have.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "types.h"

#define RECON_INLINE inline __attribute__((always_inline))

namespace recon {
namespace RECON_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kDoubles = 8;
#else
constexpr int kLanes = 8;
constexpr int kDoubles = 4;
#endif
// A vector of floats is a block of pixels, 8 wide.
constexpr int kBlockHeight = kLanes / kBlockWidth;

typedef float vf __attribute__((vector_size(kLanes * 4)));
typedef int32_t vi __attribute__((vector_size(kLanes * 4)));
typedef uint32_t vu __attribute__((vector_size(kLanes * 4)));
typedef double vd __attribute__((vector_size(kDoubles * 8)));
typedef int64_t vl __attribute__((vector_size(kDoubles * 8)));

// x - 0 is x even for -0, so this compiles to a broadcast alone.
RECON_INLINE vf all(float x) { return x - vf{}; }
RECON_INLINE vd all(double x) { return x - vd{}; }

// ---- masks -----------------------------------------------------------------------------------

#if defined(__AVX512F__)
typedef __mmask16 mask;
RECON_INLINE mask at_least(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
RECON_INLINE mask above(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
RECON_INLINE mask both(mask a, mask b) { return a & b; }
RECON_INLINE bool any(mask m) { return m != 0; }
RECON_INLINE vf keep(mask m, vf a) { return _mm512_maskz_mov_ps(m, a); }
RECON_INLINE vf keep_product(mask m, vf a, vf b) { return _mm512_maskz_mul_ps(m, a, b); }
RECON_INLINE vf smaller(vf a, vf b) { return _mm512_min_ps(a, b); }
#else
typedef vi mask;
RECON_INLINE mask at_least(vf a, vf b) { return a >= b; }
RECON_INLINE mask above(vf a, vf b) { return a > b; }
RECON_INLINE mask both(mask a, mask b) { return a & b; }
RECON_INLINE vf keep(mask m, vf a) { return (vf)(m & (vi)a); }
RECON_INLINE vf keep_product(mask m, vf a, vf b) { return keep(m, a * b); }
#if defined(__AVX2__)
RECON_INLINE bool any(mask m) { return _mm256_movemask_ps((__m256)m) != 0; }
RECON_INLINE vf smaller(vf a, vf b) { return _mm256_min_ps(a, b); }
#else
RECON_INLINE bool any(mask m) {
  int32_t some = 0;
  for (int i = 0; i < kLanes; ++i) some |= m[i];
  return some != 0;
}
RECON_INLINE vf smaller(vf a, vf b) {
  const vi less = a < b;
  return (vf)((less & (vi)a) | (~less & (vi)b));
}
#endif
#endif

RECON_INLINE vf load_lanes(const float* at) {
  vf a;
  std::memcpy(&a, at, sizeof a);
  return a;
}
RECON_INLINE void store_lanes(float* at, vf a) { std::memcpy(at, &a, sizeof a); }

// ---- blocks of pixels ------------------------------------------------------------------------

#if defined(__AVX512F__)
RECON_INLINE vf load_block(const float* at, int stride) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(at)),
                            _mm256_loadu_ps(at + stride), 1);
}
RECON_INLINE void store_block(float* at, int stride, vf a) {
  _mm256_storeu_ps(at, _mm512_castps512_ps256(a));
  _mm256_storeu_ps(at + stride, _mm512_extractf32x8_ps(a, 1));
}
constexpr vf kBlockColumns = {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
constexpr vf kBlockRows = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
#else
RECON_INLINE vf load_block(const float* at, int) { return load_lanes(at); }
RECON_INLINE void store_block(float* at, int, vf a) { store_lanes(at, a); }
constexpr vf kBlockColumns = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr vf kBlockRows = {};
#endif

// ---- sums over lanes -------------------------------------------------------------------------

// out[i] = sum of the lanes of a_i.
RECON_INLINE void sum_lanes(vf a0, vf a1, vf a2, vf a3, float* out) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  auto halve = [](vf a) {
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  };
#else
  auto halve = [](vf a) { return (__m256)a; };
#endif
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(halve(a0), halve(a1)),
                                     _mm256_hadd_ps(halve(a2), halve(a3)));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
#else
  out[0] = out[1] = out[2] = out[3] = 0;
  for (int i = 0; i < kLanes; ++i) {
    out[0] += a0[i];
    out[1] += a1[i];
    out[2] += a2[i];
    out[3] += a3[i];
  }
#endif
}

RECON_INLINE double sum_lanes(vd a) {
  double sum = 0;
  for (int i = 0; i < kDoubles; ++i) sum += a[i];
  return sum;
}

// ---- functions -------------------------------------------------------------------------------

// 2^t for t in [-126, 1], to 2 units in the last place: 2^n times a minimax polynomial of degree 5
// in the fraction, |fraction| <= 1/2. Lanes with another t hold nonsense.
RECON_INLINE vf exp2_small(vf t) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const vf shifted = t + kRounder;
  const vf f = t - (shifted - kRounder);
  vf p = all(1.327647199e-3f);
  p = p * f + 9.675541334e-3f;
  p = p * f + 5.550713273e-2f;
  p = p * f + 2.402211972e-1f;
  p = p * f + 6.931469671e-1f;
  p = p * f + 1.000000072f;
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, shifted - kRounder);
#else
  return (vf)((vu)p + ((vu)shifted << 23));
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

RECON_INLINE vd square_root(vd x) {
#if defined(__AVX512F__)
  return _mm512_sqrt_pd(x);
#elif defined(__AVX2__)
  return _mm256_sqrt_pd(x);
#else
  for (int i = 0; i < kDoubles; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

RECON_INLINE vd clamp(vd x, double low, double high) {
  x = x > low ? x : all(low);
  return x < high ? x : all(high);
}

}  // namespace RECON_ISA
}  // namespace recon
