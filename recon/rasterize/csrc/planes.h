// The scratch of one tile: what is kept for each of its pixels while splats are blended.
#pragma once

#include "footprint.h"

namespace recon {
namespace RECON_ISA {

// Planes, in order. Going backward, the channels are those of the picture's gradient.
enum { kLight, kAlpha, kDepth, kColors };
constexpr int kBehind = kAlpha;

// Block after block; within a block, plane after plane of kLanes floats.
struct Planes {
  RECON_INLINE Planes(int shift, int channels, float* scratch)
      : count(tile_planes(channels)), blocks(tile_pixels(shift) / kLanes), data(scratch) {}

  RECON_INLINE float* at(int block, int plane) const {
    return data + (block * count + plane) * kLanes;
  }
  // Room for the blocks of a splat, and of the next one, behind the planes.
  RECON_INLINE Coverage coverage(int which) const {
    const int pixels = blocks * kLanes;
    float* const free = data + (int64_t)pixels * (count + 4 * which);
    return {0, (int*)(free + 3 * pixels), free, free + pixels, free + 2 * pixels};
  }
  // Room for a vector per channel.
  RECON_INLINE float* channel_sums() const {
    return data + (int64_t)blocks * kLanes * (count + 8);
  }

  const int count, blocks;
  float* const data;
};

// Calls visit(block, lane, index in the picture) for the pixels of the tile that lie on the picture.
template <class Visit>
RECON_INLINE void for_each_pixel(const TileList& tile, const Visit& visit) {
  const int size = 1 << tile.shift, across = size / kBlockWidth;
  const int left = tile.tile_x * size, top = tile.tile_y * size;
  const int columns = smaller(size, tile.width - left), rows = smaller(size, tile.height - top);
  for (int row = 0; row < rows; ++row) {
    const int64_t pixel = (int64_t)(top + row) * tile.width + left;
    const int first_block = row / kBlockHeight * across, lane = row % kBlockHeight * kBlockWidth;
    for (int column = 0; column < columns; ++column)
      visit(first_block + column / kBlockWidth, lane + column % kBlockWidth, pixel + column);
  }
}

}  // namespace RECON_ISA
}  // namespace recon
