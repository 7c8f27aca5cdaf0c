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
// Of a lambda that is large: a call would send its vectors through memory.
#define RECON_INLINE_LAMBDA __attribute__((always_inline))

namespace recon {
namespace RECON_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kDoubles = kLanes / 2;
// Vectors are made of quads of 4 lanes. As a block of pixels, each quad is a row of a cell.
constexpr int kQuads = kLanes / 4;
constexpr int kBlocksPerCell = kCellPixels / kLanes;

typedef float vf __attribute__((vector_size(kLanes * 4)));
typedef int32_t vi __attribute__((vector_size(kLanes * 4)));
typedef uint32_t vu __attribute__((vector_size(kLanes * 4)));
typedef double vd __attribute__((vector_size(kDoubles * 8)));
typedef int64_t vl __attribute__((vector_size(kDoubles * 8)));

// x - 0 is x even for -0, so this compiles to a broadcast alone.
RECON_INLINE vf all(float x) { return x - vf{}; }
RECON_INLINE vd all(double x) { return x - vd{}; }

// What belongs to a vector: its scalars, and vectors of whole numbers with as many lanes.
template <class V>
struct Of;
template <>
struct Of<vf> {
  typedef float scalar;
  typedef vi whole;
};
template <>
struct Of<vd> {
  typedef double scalar;
  typedef vl whole;
};
template <class V>
using Scalar = typename Of<V>::scalar;
template <class V>
using Whole = typename Of<V>::whole;

// ---- masks -----------------------------------------------------------------------------------

#if defined(__AVX512F__)
typedef __mmask16 mask;
RECON_INLINE mask at_least(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
RECON_INLINE mask above(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
RECON_INLINE mask both(mask a, mask b) { return a & b; }
RECON_INLINE bool any(mask m) { return m != 0; }
RECON_INLINE bool any(vi m) { return _mm512_movepi32_mask((__m512i)m) != 0; }
RECON_INLINE vf keep(mask m, vf a) { return _mm512_maskz_mov_ps(m, a); }
RECON_INLINE vf keep_product(mask m, vf a, vf b) { return _mm512_maskz_mul_ps(m, a, b); }
// Of a number and what is none: b.
RECON_INLINE vf smaller(vf a, vf b) { return _mm512_min_ps(a, b); }
RECON_INLINE vf larger(vf a, vf b) { return _mm512_max_ps(a, b); }
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
RECON_INLINE vf larger(vf a, vf b) { return _mm256_max_ps(a, b); }
#else
RECON_INLINE bool any(mask m) {
  int32_t some = 0;
  for (int i = 0; i < kLanes; ++i) some |= m[i];
  return some != 0;
}
RECON_INLINE vf choose(vi first, vf a, vf b) {
  return (vf)((first & (vi)a) | (~first & (vi)b));
}
RECON_INLINE vf smaller(vf a, vf b) { return choose(a < b, a, b); }
RECON_INLINE vf larger(vf a, vf b) { return choose(a > b, a, b); }
#endif
#endif

// Aligned to whole vectors.
RECON_INLINE vf load(const float* at) {
  vf a;
  std::memcpy(&a, __builtin_assume_aligned(at, sizeof a), sizeof a);
  return a;
}
RECON_INLINE void store(float* at, vf a) {
  std::memcpy(__builtin_assume_aligned(at, sizeof a), &a, sizeof a);
}

RECON_INLINE vi to_int(vf a) { return __builtin_convertvector(a, vi); }  // towards zero

// Pixels of the first block of a cell.
#if defined(__AVX512F__)
constexpr vf kBlockColumns = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
constexpr vf kBlockRows = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
#elif defined(__AVX2__)
constexpr vf kBlockColumns = {0, 1, 2, 3, 0, 1, 2, 3};
constexpr vf kBlockRows = {0, 0, 0, 0, 1, 1, 1, 1};
#else
constexpr vf kBlockColumns = {0, 1, 2, 3};
constexpr vf kBlockRows = {};
#endif

// ---- quads -----------------------------------------------------------------------------------

// Within every quad: a0 b0 a1 b1, a2 b2 a3 b3, a0 a1 b0 b1, a2 a3 b2 b3.
#if defined(__AVX512F__)
RECON_INLINE vf low_mixed(vf a, vf b) { return _mm512_unpacklo_ps(a, b); }
RECON_INLINE vf high_mixed(vf a, vf b) { return _mm512_unpackhi_ps(a, b); }
RECON_INLINE vf low_pairs(vf a, vf b) {
  return (vf)_mm512_unpacklo_pd((__m512d)a, (__m512d)b);
}
RECON_INLINE vf high_pairs(vf a, vf b) {
  return (vf)_mm512_unpackhi_pd((__m512d)a, (__m512d)b);
}
template <int k>
RECON_INLINE vf spread(vf a) {  // lane k of every quad
  return _mm512_permute_ps(a, k * 0x55);
}
RECON_INLINE vf repeat_quad(const float* at) { return _mm512_broadcast_f32x4(_mm_loadu_ps(at)); }
RECON_INLINE vf load_quads(const float* const* at) {
  const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(at[0])),
                                          _mm_loadu_ps(at[1]), 1);
  const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(at[2])),
                                           _mm_loadu_ps(at[3]), 1);
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
template <int k>
RECON_INLINE __m128 quad(vf a) {
  return _mm512_extractf32x4_ps(a, k);
}
RECON_INLINE void store_quads(float* const* at, vf a) {
  _mm_storeu_ps(at[0], quad<0>(a));
  _mm_storeu_ps(at[1], quad<1>(a));
  _mm_storeu_ps(at[2], quad<2>(a));
  _mm_storeu_ps(at[3], quad<3>(a));
}
// Quad k of m[i] becomes quad i of m[k].
RECON_INLINE void turn_quads(vf (&m)[kQuads]) {
  const vf a = _mm512_shuffle_f32x4(m[0], m[1], 0x44), b = _mm512_shuffle_f32x4(m[2], m[3], 0x44);
  const vf c = _mm512_shuffle_f32x4(m[0], m[1], 0xee), d = _mm512_shuffle_f32x4(m[2], m[3], 0xee);
  m[0] = _mm512_shuffle_f32x4(a, b, 0x88);
  m[1] = _mm512_shuffle_f32x4(a, b, 0xdd);
  m[2] = _mm512_shuffle_f32x4(c, d, 0x88);
  m[3] = _mm512_shuffle_f32x4(c, d, 0xdd);
}
#elif defined(__AVX2__)
RECON_INLINE vf low_mixed(vf a, vf b) { return _mm256_unpacklo_ps(a, b); }
RECON_INLINE vf high_mixed(vf a, vf b) { return _mm256_unpackhi_ps(a, b); }
RECON_INLINE vf low_pairs(vf a, vf b) {
  return (vf)_mm256_unpacklo_pd((__m256d)a, (__m256d)b);
}
RECON_INLINE vf high_pairs(vf a, vf b) {
  return (vf)_mm256_unpackhi_pd((__m256d)a, (__m256d)b);
}
template <int k>
RECON_INLINE vf spread(vf a) {
  return _mm256_permute_ps(a, k * 0x55);
}
RECON_INLINE vf repeat_quad(const float* at) { return _mm256_broadcast_ps((const __m128*)at); }
RECON_INLINE vf load_quads(const float* const* at) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(at[0])), _mm_loadu_ps(at[1]), 1);
}
RECON_INLINE void store_quads(float* const* at, vf a) {
  _mm_storeu_ps(at[0], _mm256_castps256_ps128(a));
  _mm_storeu_ps(at[1], _mm256_extractf128_ps(a, 1));
}
RECON_INLINE void turn_quads(vf (&m)[kQuads]) {
  const vf low = _mm256_permute2f128_ps(m[0], m[1], 0x20);
  m[1] = _mm256_permute2f128_ps(m[0], m[1], 0x31);
  m[0] = low;
}
#else
RECON_INLINE vf low_mixed(vf a, vf b) { return vf{a[0], b[0], a[1], b[1]}; }
RECON_INLINE vf high_mixed(vf a, vf b) { return vf{a[2], b[2], a[3], b[3]}; }
RECON_INLINE vf low_pairs(vf a, vf b) { return vf{a[0], a[1], b[0], b[1]}; }
RECON_INLINE vf high_pairs(vf a, vf b) { return vf{a[2], a[3], b[2], b[3]}; }
template <int k>
RECON_INLINE vf spread(vf a) {
  return all(a[k]);
}
RECON_INLINE vf repeat_quad(const float* at) {
  vf a;
  std::memcpy(&a, at, sizeof a);
  return a;
}
RECON_INLINE vf load_quads(const float* const* at) { return repeat_quad(at[0]); }
RECON_INLINE void store_quads(float* const* at, vf a) { std::memcpy(at[0], &a, sizeof a); }
RECON_INLINE void turn_quads(vf (&)[kQuads]) {}
#endif

// Transposes every quad of four vectors: lane k of m[i] becomes lane i of m[k].
RECON_INLINE void transpose_quads(vf (&m)[4]) {
  const vf a = low_mixed(m[0], m[1]), b = low_mixed(m[2], m[3]);
  const vf c = high_mixed(m[0], m[1]), d = high_mixed(m[2], m[3]);
  m[0] = low_pairs(a, b);
  m[1] = high_pairs(a, b);
  m[2] = low_pairs(c, d);
  m[3] = high_pairs(c, d);
}

// Lane k of every quad: the sum of the k-th argument's.
RECON_INLINE vf sum_quads(vf a, vf b, vf c, vf d) {
  const vf ac = low_mixed(a, c) + high_mixed(a, c);
  const vf bd = low_mixed(b, d) + high_mixed(b, d);
  return low_mixed(ac, bd) + high_mixed(ac, bd);
}
RECON_INLINE vf sum_quads(vf a, vf b) {
  const vf ab = low_mixed(a, b) + high_mixed(a, b);
  return ab + high_pairs(ab, ab);
}

// Rows of 4 floats to lanes: out[c] holds column c of the rows at[0 .. kLanes).
RECON_INLINE void load_columns(const float* const (&at)[kLanes], int offset, vf (&out)[4]) {
  for (int i = 0; i < 4; ++i) {
    const float* rows[kQuads];
    for (int q = 0; q < kQuads; ++q) rows[q] = at[4 * q + i] + offset;
    out[i] = load_quads(rows);
  }
  transpose_quads(out);
}
RECON_INLINE void store_columns(float* const (&at)[kLanes], int offset, vf a, vf b, vf c, vf d) {
  vf m[4] = {a, b, c, d};
  transpose_quads(m);
  for (int i = 0; i < 4; ++i) {
    float* rows[kQuads];
    for (int q = 0; q < kQuads; ++q) rows[q] = at[4 * q + i] + offset;
    store_quads(rows, m[i]);
  }
}

// ---- sums over lanes -------------------------------------------------------------------------

RECON_INLINE double sum_lanes(vd a) {
  double sum = 0;
  for (int i = 0; i < kDoubles; ++i) sum += a[i];
  return sum;
}

// ---- functions -------------------------------------------------------------------------------

// 2^t for t in [-126, 1], to 3e-6 of it: a minimax polynomial of degree 4 in the fraction, and a
// shift. Lanes with another t hold nonsense. Several vectors, step by step: the steps of one wait
// for each other.
template <int n>
RECON_INLINE void exp2_small(const vf (&t)[n], vf (&out)[n]) {
  constexpr float kTerms[] = {5.201146062e-2f, 2.414427569e-1f, 6.930038345e-1f, 1.000002593f};
  vf fraction[n];
#if defined(__AVX512F__)
  for (int i = 0; i < n; ++i) fraction[i] = _mm512_reduce_ps(t[i], _MM_FROUND_TO_NEG_INF);
#else
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  vf shifted[n];
  for (int i = 0; i < n; ++i) shifted[i] = (t[i] - 0.5f) + kRounder;
  for (int i = 0; i < n; ++i) fraction[i] = t[i] - (shifted[i] - kRounder);
#endif
  for (int i = 0; i < n; ++i) out[i] = all(1.353416791e-2f);
  for (float term : kTerms)
    for (int i = 0; i < n; ++i) out[i] = out[i] * fraction[i] + term;
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
