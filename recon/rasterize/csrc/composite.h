// Front-to-back blending of one tile.
//
// For the splats i of a pixel, nearest first, with T_0 = 1:
//   weight_i = alpha_i T_i,   T_{i+1} = T_i (1 - alpha_i),   feature = sum_i weight_i feature_i.
// The pixel ends before the splat that would leave T_{i+1} <= 1e-4. T only ever falls, so that
// comparing it with the limit ends a pixel for good, and the next T waits for a single product.
// Alpha is summed from the weights: 1 - T would go on past the end, and has lost the digits that
// the expected depth, a ratio, needs where little is blended.
//
// A tile works through its splats in rounds. In each, every block of pixels goes through the splats
// that reach its cell, with its sums in registers; it ends when no light is left.
#pragma once

#include "cells.h"

namespace recon {
namespace RECON_ISA {

// Blends a round into one block. kChannels at compile time, or 0: as many as the tile says.
template <int kChannels>
RECON_INLINE void composite_block(const TileList& tile, const Round& round, const Block& block) {
  const int channels = kChannels ? kChannels : tile.channels;
  vf light = load(plane(block, kLight)), alphas = load(plane(block, kAlpha));
  vf depths = load(plane(block, kValues + channels));
  vf sums[kChannels ? kChannels : 1];
  for (int c = 0; c < kChannels; ++c) sums[c] = load(plane(block, kValues + c));

  const auto blend = [&](const Group& group) {
    mask blended;
    for (int k = 0; k < kQuads; ++k) {
      const Entry& entry = *group.entries[k];
      const vf alpha = group.alpha[k], after = light - light * alpha;
      blended = above(after, all(kTransmittanceMin));
      const vf weight = keep_product(blended, light, alpha);
      light = after;
      alphas += weight;
      depths += weight * entry.depth;
      if (kChannels) {
        for (int c = 0; c < kChannels; ++c) sums[c] += weight * entry.color[c];
      } else {  // too many for registers
        const float* color = tile.colors + (int64_t)entry.id * channels;
        for (int c = 0; c < channels; ++c) {
          float* const sum = plane(block, kValues + c);
          store(sum, load(sum) + weight * color[c]);
        }
      }
    }
    return any(blended);
  };
  for_each_group(tile, round, block, blend, [](const Group&) {});

  store(plane(block, kLight), light);
  store(plane(block, kAlpha), alphas);
  store(plane(block, kValues + channels), depths);
  for (int c = 0; c < kChannels; ++c) store(plane(block, kValues + c), sums[c]);
}

RECON_INLINE void write_picture(const TileList& tile, const float* background, float* planes,
                                const Picture& picture) {
  const int channels = tile.channels;
  for_each_block(tile, planes, [&](const Block& block) {
    const vf alpha = load(plane(block, kAlpha)), left_over = 1.0f - alpha;
    float* const depth = plane(block, kValues + channels);
    store(depth, keep(above(alpha, vf{}), load(depth) / alpha));
    for (int c = 0; background && c < channels; ++c) {
      float* const sum = plane(block, kValues + c);
      store(sum, load(sum) + left_over * background[c]);
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
    for_each_block(tile, scratch, [&](const Block& block) {
      if (!(open >> block.cell & 1)) return;
      composite_block<kChannels>(tile, round, block);
      still_open |= (uint64_t)any(above(load(plane(block, kLight)), all(kTransmittanceMin)))
                    << block.cell;
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
