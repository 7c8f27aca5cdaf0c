// The derivative of blending one tile.
//
// With g the gradient of a pixel's features and worth_i = feature_i . g,
//   d loss / d alpha_i = T_i worth_i - behind_i / (1 - alpha_i),
//   behind_i = sum_{j > i} weight_j worth_j + T_end d loss / d T_end:
// more of splat i shows more of it and dims all that lies behind it. The tile is walked front to
// back once more; ``behind`` starts as the whole sum, which the finished picture gives, and every
// splat takes its own part off. So nothing per pixel and splat is ever stored.
#pragma once

#include "footprint.h"

namespace recon {
namespace RECON_ISA {

// Gradients of the tile's pixels: ``behind`` before the first splat, depth sum, channels.
//
// The picture holds expected depth E = D / a, a = 1 - T_end, and image = sums + T_end background:
//   d loss / dD = gE / a,   d loss / da = gA - gE E / a - gImage . background (in all),
// so that the whole sum is image . gImage + E gE - T_end (gA - gE E / a).
RECON_INLINE void load_gradients(const TileList& tile, const Picture& picture,
                                 const PictureGradient& gradient, int channels, float* behind,
                                 float* to_depth, float* to_sums) {
  const int size = 1 << tile.shift, stride = tile_stride(tile.shift);
  const int plane = plane_size(tile.shift);
  for (int i = 0; i < plane; ++i) behind[i] = 0;
  for (int i = 0; i < (1 + channels) * plane; ++i) to_depth[i] = 0;
  const int left = tile.tile_x * size, top = tile.tile_y * size;
  const int columns = smaller(size, tile.width - left), rows = smaller(size, tile.height - top);
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      const int64_t pixel = (int64_t)(top + row) * tile.width + left + column;
      const int at = row * stride + column;
      const float alpha = picture.alpha[pixel];
      float total = 0, to_alpha = gradient.alpha ? gradient.alpha[pixel] : 0;
      if (gradient.depth && alpha > 0) {
        const float expected = picture.depth[pixel], g = gradient.depth[pixel];
        to_depth[at] = g / alpha;
        to_alpha -= g * expected / alpha;
        total += g * expected;
      }
      total -= (1 - alpha) * to_alpha;
      if (gradient.image)
        for (int c = 0; c < channels; ++c) {
          const float g = gradient.image[pixel * channels + c];
          to_sums[c * plane + at] = g;
          total += g * picture.image[pixel * channels + c];
        }
      behind[at] = total;
    }
  }
}

// The background shows through 1 - alpha.
RECON_INLINE float background_part(const TileList& tile, const Picture& picture,
                                   const PictureGradient& gradient, int channel) {
  if (!gradient.image) return 0;
  const int size = 1 << tile.shift, left = tile.tile_x * size, top = tile.tile_y * size;
  const int right = smaller(left + size, tile.width), bottom = smaller(top + size, tile.height);
  double sum = 0;
  for (int row = top; row < bottom; ++row)
    for (int64_t pixel = (int64_t)row * tile.width + left; pixel < (int64_t)row * tile.width + right;
         ++pixel)
      sum += (1 - picture.alpha[pixel]) * gradient.image[pixel * tile.channels + channel];
  return (float)sum;
}

template <int kChannels>
static void composite_backward_channels(const TileList& tile, int64_t used,
                                        const Picture& picture, const PictureGradient& gradient,
                                        float* scratch, float* slots, float* to_background) {
  const int channels = kChannels ? kChannels : tile.channels;
  const int stride = tile_stride(tile.shift), plane = plane_size(tile.shift);
  const int slot_size = slot_stride(channels);
  float* light = scratch;
  float* behind = scratch + plane;
  float* to_depth = scratch + 2 * plane;
  float* to_sums = scratch + 3 * plane;
  // Sums over pixels, by lane, in the order of a slot. Channels whose number is not known at
  // compile time are summed in memory instead of in registers.
  constexpr int kSums = slot_stride(kChannels);
  float* channel_sums = to_sums + channels * plane;
  for (int i = 0; i < plane; ++i) light[i] = 1;
  load_gradients(tile, picture, gradient, channels, behind, to_depth, to_sums);

  for (int64_t k = 0; k < tile.count; ++k) {
    prefetch_splat(tile, k);
    const uint32_t id = tile.ids[k];
    const Splat& splat = tile.splats[id];
    float* slot = slots + ((int64_t)splat.first_slot + tile_rank(splat, tile)) * slot_size;
    if (k >= used) {
      for (int i = 0; i < slot_size; ++i) slot[i] = 0;
      continue;
    }
    const float* color = tile.colors + (int64_t)id * channels;
    vf sums[kSums] = {};
    if (!kChannels)
      for (int i = 0; i < (channels + 3) / 4 * 4 * kLanes; ++i) channel_sums[i] = 0;
    for_each_block(splat, tile, [&](int at, vf u, vf w) {
      const vf exponent = splat.log2_opacity - u * u - w * w;
      const mask reached = at_least(exponent, all(kExponentMin));
      const vf full = exp2_small(exponent);
      const vf alpha = smaller(full, all(kAlphaMax));
      const vf before = load_block(light + at, stride);
      const vf hidden = keep_product(reached, before, alpha);
      const vf after = before - hidden;
      const mask drawn = above(after, all(kTransmittanceMin));
      const vf weight = keep(drawn, hidden);
      store_block(light + at, stride, keep(drawn, after));

      const vf g_depth = load_block(to_depth + at, stride);
      vf worth = g_depth * splat.depth;
      sums[kSlotDepth] += weight * g_depth;
      for (int c = 0; c < channels; ++c) {
        const vf g = load_block(to_sums + c * plane + at, stride);
        worth += g * color[c];
        if (kChannels) {
          sums[kSlotColors + c] += weight * g;
        } else {
          store_lanes(channel_sums + c * kLanes, load_lanes(channel_sums + c * kLanes) + weight * g);
        }
      }
      const vf rest = load_block(behind + at, stride) - weight * worth;
      store_block(behind + at, stride, rest);

      // d loss / d log alpha; where alpha is clamped it does not move.
      const mask moves = both(both(drawn, reached), at_least(all(kAlphaMax), full));
      const vf flow = keep(moves, weight * worth - rest * (alpha / (1.0f - alpha)));
      const vf flow_u = flow * u, flow_w = flow * w;
      sums[0] += flow;
      sums[1] += flow_u;
      sums[2] += flow_w;
      sums[3] += flow_u * u;
      sums[4] += flow_u * w;
      sums[5] += flow_w * w;
    });
    for (int i = 0; i < kSums; i += 4)
      sum_lanes(sums[i], sums[i + 1], sums[i + 2], sums[i + 3], slot + i);
    if (!kChannels) {
      float totals[4];
      for (int c = 0; c < channels; c += 4) {
        const float* from = channel_sums + c * kLanes;
        sum_lanes(load_lanes(from), load_lanes(from + kLanes), load_lanes(from + 2 * kLanes),
                  load_lanes(from + 3 * kLanes), totals);
        for (int i = 0; i < 4 && c + i < channels; ++i) slot[kSlotColors + c + i] = totals[i];
      }
    }
  }

  for (int c = 0; c < channels; ++c) to_background[c] = background_part(tile, picture, gradient, c);
}

static void composite_backward(const TileList& tile, int64_t used, const Picture& picture,
                               const PictureGradient& gradient, float* scratch, float* slots,
                               float* to_background) {
  auto* run = tile.channels == 1   ? composite_backward_channels<1>
              : tile.channels == 3 ? composite_backward_channels<3>
                                   : composite_backward_channels<0>;
  run(tile, used, picture, gradient, scratch, slots, to_background);
}

}  // namespace RECON_ISA
}  // namespace recon
