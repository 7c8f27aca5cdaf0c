// Front-to-back blending of one tile.
//
// For the splats i of a pixel, nearest first, with T_0 = 1:
//   weight_i = alpha_i T_i,   T_{i+1} = T_i (1 - alpha_i),   feature = sum_i weight_i feature_i.
// The pixel ends before the splat that would leave T_{i+1} <= 1e-4: then its T becomes 0, with which
// no later splat can exceed the limit, and no other flag is needed. Alpha is therefore summed from
// the weights, which also keeps the digits that 1 - T loses where little is drawn, and that the
// expected depth, a ratio, needs.
#pragma once

#include "footprint.h"

namespace recon {
namespace RECON_ISA {

// kChannels at compile time, or 0: as many as the tile says.
template <int kChannels>
static int64_t composite_channels(const TileList& tile, const float* background, float* scratch,
                                  const Picture& picture) {
  const int channels = kChannels ? kChannels : tile.channels;
  const int size = 1 << tile.shift, stride = tile_stride(tile.shift);
  const int plane = plane_size(tile.shift);
  float* light = scratch;
  float* alphas = scratch + plane;
  float* depths = scratch + 2 * plane;
  float* sums = scratch + 3 * plane;  // [channels, plane]
  for (int i = 0; i < plane; ++i) light[i] = 1;
  for (int i = 0; i < (2 + channels) * plane; ++i) alphas[i] = 0;

  int64_t used = tile.count;
  for (int64_t k = 0; k < tile.count; ++k) {
    if (k % kFinishedEvery == kFinishedEvery - 1) {
      mask lit = {};
      for (int row = 0; row < size; row += kBlockHeight)
        for (int column = 0; column < size; column += kBlockWidth)
          lit = lit | above(load_block(light + row * stride + column, stride), vf{});
      if (!any(lit)) {
        used = k;
        break;
      }
    }
    prefetch_splat(tile, k);
    const uint32_t id = tile.ids[k];
    const Splat& splat = tile.splats[id];
    const float* color = tile.colors + (int64_t)id * channels;
    for_each_block(splat, tile, [&](int at, vf u, vf w) {
      const vf exponent = splat.log2_opacity - u * u - w * w;
      const mask reached = at_least(exponent, all(kExponentMin));
      const vf alpha = smaller(exp2_small(exponent), all(kAlphaMax));
      const vf before = load_block(light + at, stride);
      const vf hidden = keep_product(reached, before, alpha);
      const vf after = before - hidden;
      const mask drawn = above(after, all(kTransmittanceMin));
      const vf weight = keep(drawn, hidden);
      store_block(light + at, stride, keep(drawn, after));
      store_block(alphas + at, stride, load_block(alphas + at, stride) + weight);
      store_block(depths + at, stride, load_block(depths + at, stride) + weight * splat.depth);
      for (int c = 0; c < channels; ++c) {
        float* sum = sums + c * plane + at;
        store_block(sum, stride, load_block(sum, stride) + weight * color[c]);
      }
    });
  }

  const int left = tile.tile_x * size, top = tile.tile_y * size;
  const int columns = smaller(size, tile.width - left), rows = smaller(size, tile.height - top);
  for (int row = 0; row < rows; ++row) {
    const int64_t pixel = (int64_t)(top + row) * tile.width + left;
    for (int column = 0; column < columns; ++column) {
      const int at = row * stride + column;
      const float alpha = alphas[at], left_over = 1 - alpha;
      picture.alpha[pixel + column] = alpha;
      picture.depth[pixel + column] = alpha > 0 ? depths[at] / alpha : 0;
      float* out = picture.image + (pixel + column) * channels;
      for (int c = 0; c < channels; ++c)
        out[c] = sums[c * plane + at] + (background ? left_over * background[c] : 0);
    }
  }
  return used;
}

static int64_t composite(const TileList& tile, const float* background, float* scratch,
                         const Picture& picture) {
  switch (tile.channels) {
    case 1: return composite_channels<1>(tile, background, scratch, picture);
    case 3: return composite_channels<3>(tile, background, scratch, picture);
    default: return composite_channels<0>(tile, background, scratch, picture);
  }
}

}  // namespace RECON_ISA
}  // namespace recon
