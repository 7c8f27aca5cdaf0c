// Walks the blocks of pixels that a splat can reach within one tile.
#pragma once

#include "simd.h"

namespace recon {
namespace RECON_ISA {

// Exponents below log2(1/255) are contributions below 1/255.
constexpr float kExponentMin = -7.9943534f;

RECON_INLINE int larger(int a, int b) { return a > b ? a : b; }
RECON_INLINE int smaller(int a, int b) { return a < b ? a : b; }

// The whole numbers as floats: cheaper to load than to convert.
constexpr float kNumbers[1 << kMaxTileShift] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
    44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

// Up to this width, leaving out the corners of the box costs more than it saves.
constexpr int kSimpleWidth = 2 * kBlockWidth;

// Calls visit(offset of the block in a plane, u, w) for blocks that together cover every pixel of
// the tile on which the splat is at least 1/255. Blocks start anywhere, not on a grid: a splat 8
// pixels wide needs one column of blocks, where aligned ones would need two. They may cover pixels
// out of the splat's reach, or beyond the tile, too.
template <class Visit>
RECON_INLINE void for_each_block(const Splat& s, const TileList& tile, const Visit& visit) {
  const int size = 1 << tile.shift, stride = tile_stride(tile.shift);
  // The box in tile pixels, and pixel (0, 0) of the tile relative to the splat's centre.
  const int shift_x = tile.tile_x * size - s.left, shift_y = tile.tile_y * size - s.top;
  const int left = larger(-shift_x, 0), top = larger(-shift_y, 0);
  const int right = smaller(s.right - s.left - shift_x, size - 1);
  const int bottom = smaller(s.bottom - s.top - shift_y, size - 1);
  const float corner_x = (float)shift_x + (0.5f - s.x), corner_y = (float)shift_y + (0.5f - s.y);

  const vf dy_first = kBlockRows + corner_y;
  if (right - left < kSimpleWidth) {
    for (int column = left; column <= right; column += kBlockWidth) {
      const vf u_column = s.ux * (kBlockColumns + ((float)column + corner_x));
      for (int row = top; row <= bottom; row += kBlockHeight) {
        const vf dy = dy_first + kNumbers[row];
        visit(row * stride + column, u_column + s.uy * dy, s.wy * dy);
      }
    }
    return;
  }

  // Wide splats: only the columns between the two crossings of each row with the ellipse
  // u^2 + w^2 = budget, where ux dx = -uy dy +- sqrt(budget - w^2).
  const float budget = s.log2_opacity - kExponentMin;
  const float per_ux = 1.0f / (s.ux > 1e-30f ? s.ux : 1e-30f);
  constexpr float kSlack = 1e-2f;  // pixels, against rounding
  for (int row = top; row <= bottom; row += kBlockHeight) {
    float low = 1e9f, high = -1e9f;
    for (int k = 0; k < kBlockHeight; ++k) {
      const float dy = (float)(row + k) + corner_y;
      const float w = s.wy * dy, rest = budget - w * w;
      const float half = __builtin_sqrtf(rest > 0 ? rest : 0);
      const float from = (-s.uy * dy - half) * per_ux, to = (-s.uy * dy + half) * per_ux;
      low = from < low ? from : low;
      high = to > high ? to : high;
    }
    low = low - corner_x - kSlack;
    high = high - corner_x + kSlack;
    // Before the conversion to integers: a needle may cross far outside.
    if (low > (float)right || high < (float)left) continue;
    const int first = low > (float)left ? (int)low : left;
    const int last = high < (float)right ? (int)high : right;
    const vf dy = dy_first + kNumbers[row];
    const vf u_row = s.uy * dy, w = s.wy * dy;
    for (int column = first; column <= last; column += kBlockWidth) {
      const vf dx = kBlockColumns + ((float)column + corner_x);
      visit(row * stride + column, s.ux * dx + u_row, w);
    }
  }
}

// Index of this tile among the tiles that the splat's box touches.
RECON_INLINE int64_t tile_rank(const Splat& s, const TileList& tile) {
  const int first_x = s.left >> tile.shift, across = (s.right >> tile.shift) - first_x + 1;
  return (int64_t)(tile.tile_y - (s.top >> tile.shift)) * across + (tile.tile_x - first_x);
}

// Splats are read in depth order, which jumps about in memory: ask for them ahead of time.
RECON_INLINE void prefetch_splat(const TileList& tile, int64_t k) {
  constexpr int64_t kAhead = 6;
  if (k + kAhead < tile.count) {
    const uint32_t id = tile.ids[k + kAhead];
    __builtin_prefetch(tile.splats + id);
    __builtin_prefetch(tile.colors + (int64_t)id * tile.channels);
  }
}

// After so many splats it is worth looking whether the tile is finished.
constexpr int64_t kFinishedEvery = 128;

}  // namespace RECON_ISA
}  // namespace recon
