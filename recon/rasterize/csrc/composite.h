// Front-to-back blending of one tile.
//
// For the splats i of a pixel, nearest first, with T_0 = 1:
//   weight_i = alpha_i T_i,   T_{i+1} = T_i (1 - alpha_i),   feature = sum_i weight_i feature_i.
// The pixel ends before the splat that would leave T_{i+1} <= 1e-4. T only ever falls, so that
// comparing it with the limit ends a pixel for good, and the next T waits for a single product.
// Alpha is summed from the weights: 1 - T would go on past the end, and has lost the digits that
// the expected depth, a ratio, needs where little is blended.
//
// A tile works through its splats in rounds. In each, every cell goes through the splats that
// reach it, with its sums in registers; it ends when no light is left.
#pragma once

#include "cells.h"

namespace recon {
namespace RECON_ISA {

// Blends a round into one cell. kChannels at compile time, or 0: as many as the tile says.
template <int kChannels>
RECON_INLINE void composite_cell(const TileList& tile, const Round& round, const Cell& cell) {
  const int channels = kChannels ? kChannels : tile.channels;
  Pixels light, alphas, depths, sums[kChannels ? kChannels : 1];
  load_pixels(cell, kLight, light);
  load_pixels(cell, kAlpha, alphas);
  load_pixels(cell, kValues + channels, depths);
  for (int c = 0; c < kChannels; ++c) load_pixels(cell, kValues + c, sums[c]);

  const auto blend = [&](const Group& group) RECON_INLINE_LAMBDA {
    bool lit = false;
    for (int k = 0; k < kQuads; ++k) {
      const Entry& entry = *group.entries[k];
      const float* color = tile.colors + (int64_t)entry.id * channels;
      for (int v = 0; v < kCellVectors; ++v) {
        const vf alpha = group.alpha[k * kCellVectors + v], after = light[v] - light[v] * alpha;
        const mask blended = above(after, all(kTransmittanceMin));
        const vf weight = keep_product(blended, light[v], alpha);
        light[v] = after;
        alphas[v] += weight;
        depths[v] += weight * entry.depth;
        if (kChannels) {
          for (int c = 0; c < kChannels; ++c) sums[c][v] += weight * entry.color[c];
        } else {  // too many for registers
          for (int c = 0; c < channels; ++c) {
            float* const sum = plane(cell, kValues + c) + v * kLanes;
            store(sum, load(sum) + weight * color[c]);
          }
        }
        if (k == kQuads - 1) lit |= any(blended);
      }
    }
    return lit;
  };
  for_each_group(tile, round, cell, blend, [](const Group&) {});

  store_pixels(cell, kLight, light);
  store_pixels(cell, kAlpha, alphas);
  store_pixels(cell, kValues + channels, depths);
  for (int c = 0; c < kChannels; ++c) store_pixels(cell, kValues + c, sums[c]);
}

RECON_INLINE void write_picture(const TileList& tile, const float* background, float* planes,
                                const Picture& picture) {
  const int channels = tile.channels;
  for_each_cell(tile, planes, [&](const Cell& cell) {
    for (int v = 0; v < kCellVectors; ++v) {
      const auto at = [&](int which) { return plane(cell, which) + v * kLanes; };
      const vf alpha = load(at(kAlpha)), left_over = 1.0f - alpha;
      float* const depth = at(kValues + channels);
      store(depth, keep(above(alpha, vf{}), load(depth) / alpha));
      for (int c = 0; background && c < channels; ++c)
        store(at(kValues + c), load(at(kValues + c)) + left_over * background[c]);
    }
  });
  for_each_run(tile, planes, [&](int64_t pixel, const float* run, int n) {
    const size_t bytes = (size_t)n * sizeof(float);
    std::memcpy(picture.alpha + pixel, run + kAlpha * kCellPixels, bytes);
    std::memcpy(picture.depth + pixel, run + (kValues + channels) * kCellPixels, bytes);
    float* const image = picture.image + pixel * channels;
    for (int i = 0; i < n; ++i)
      for (int c = 0; c < channels; ++c)
        image[i * channels + c] = run[(kValues + c) * kCellPixels + i];
  });
}

template <int kChannels>
static int64_t composite_channels(const TileList& tile, const float* background, float* scratch,
                                  const Picture& picture) {
  clear_planes(tile, scratch);
  // Light falls on the pixels of the picture alone.
  for_each_run(tile, scratch, [](int64_t, float* run, int n) {
    for (int i = 0; i < n; ++i) run[kLight * kCellPixels + i] = 1;
  });

  int64_t used = 0;
  for (uint64_t open = ~uint64_t{0}; open && used < tile.count;) {
    const Round round = round_from(tile, used);
    used = round.end;
    uint64_t still_open = 0;
    for_each_cell(tile, scratch, [&](const Cell& cell) RECON_INLINE_LAMBDA {
      if (!(open >> cell.index & 1)) return;
      composite_cell<kChannels>(tile, round, cell);
      still_open |= (uint64_t)any_lit(cell) << cell.index;
    });
    open = still_open;
  }

  write_picture(tile, background, scratch, picture);
  return used;
}

static int64_t composite(const TileList& tile, const float* background, float* scratch,
                         const Picture& picture) {
  auto* run = tile.channels == 3 ? composite_channels<3> : composite_channels<0>;
  return run(tile, background, scratch, picture);
}

}  // namespace RECON_ISA
}  // namespace recon
