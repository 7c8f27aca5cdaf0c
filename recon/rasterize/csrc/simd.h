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
// Vectors are made of quads of 4 lanes. Of the pixels of a cell, each quad is a row.
constexpr int kQuads = kLanes / 4;
constexpr int kCellVectors = kCellPixels / kLanes;

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

// -1 in the first lanes, as many as ``count`` says, else 0.
RECON_INLINE vi lanes_before(int64_t count) {
  vi lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < (int)(count < kLanes ? count : kLanes);
}

RECON_INLINE vi to_int(vf a) { return __builtin_convertvector(a, vi); }  // towards zero

// Pixels of the first vector of a cell.
#if defined(__AVX512F__)
constexpr vf kColumns = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
constexpr vf kRows = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
#elif defined(__AVX2__)
constexpr vf kColumns = {0, 1, 2, 3, 0, 1, 2, 3};
constexpr vf kRows = {0, 0, 0, 0, 1, 1, 1, 1};
#else
constexpr vf kColumns = {0, 1, 2, 3};
constexpr vf kRows = {};
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

}  // namespace RECON_ISA
}  // namespace recon
