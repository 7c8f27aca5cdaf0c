// The derivative of blending one tile.
//
// With g the gradient of a pixel's features and worth_i = feature_i . g,
//   d loss / d alpha_i = T_i worth_i - behind_i / (1 - alpha_i),
//   behind_i = sum_{j > i} weight_j worth_j + T_end d loss / d T_end:
// more of splat i shows more of it and dims all that lies behind it. The tile is walked front to
// back once more; ``behind`` starts as the whole sum, which the finished picture gives, and every
// splat takes its own part off. So nothing per pixel and splat is ever stored.
//
// Sums over the pixels of a block are taken for kQuads splats at once: turned, so that every quad of
// lanes holds one splat, their rows are plain vectors to be added.
#pragma once

#include "entries.h"

namespace recon {
namespace RECON_ISA {

// Gradients of the tile's pixels: ``behind`` before the first splat, channels, depth sum.
//
// The picture holds expected depth E = D / a, a = 1 - T_end, and image = sums + T_end background:
//   d loss / dD = gE / a,   d loss / da = gA - gE E / a - gImage . background (in all),
// so that the whole sum is image . gImage + E gE - T_end (gA - gE E / a).
RECON_INLINE void load_gradients(const TileList& tile, const Picture& picture,
                                 const PictureGradient& gradient, int channels, float* planes) {
  const int64_t size = planes_size(tile.shift, channels);
  for (int64_t i = 0; i < size; i += kLanes) store(planes + i, vf{});
  for_each_pixel(tile, planes, [&](float* values, int64_t pixel) {
    const float alpha = picture.alpha[pixel];
    float total = 0, to_alpha = gradient.alpha ? gradient.alpha[pixel] : 0;
    if (gradient.depth && alpha > 0) {
      const float expected = picture.depth[pixel], g = gradient.depth[pixel];
      values[(kValues + channels) * kCellPixels] = g / alpha;
      to_alpha -= g * expected / alpha;
      total += g * expected;
    }
    total -= (1 - alpha) * to_alpha;
    if (gradient.image)
      for (int c = 0; c < channels; ++c) {
        const float g = gradient.image[pixel * channels + c];
        values[(kValues + c) * kCellPixels] = g;
        total += g * picture.image[pixel * channels + c];
      }
    values[kLight * kCellPixels] = 1;
    values[kBehind * kCellPixels] = total;
  });
}

// The background shows through 1 - alpha.
RECON_INLINE float background_part(const TileList& tile, const Picture& picture,
                                   const PictureGradient& gradient, int channel) {
  if (!gradient.image) return 0;
  const int size = 1 << tile.shift, left = tile.tile_x * size, top = tile.tile_y * size;
  const int right = left + size < tile.width ? left + size : tile.width;
  const int bottom = top + size < tile.height ? top + size : tile.height;
  double sum = 0;
  for (int row = top; row < bottom; ++row)
    for (int64_t pixel = (int64_t)row * tile.width + left; pixel < (int64_t)row * tile.width + right;
         ++pixel)
      sum += (1 - picture.alpha[pixel]) * gradient.image[pixel * tile.channels + channel];
  return (float)sum;
}

// Adds quad i of the sums to the slots of entry i, ``offset`` floats in.
RECON_INLINE void add_to_slots(const Entry* const (&entries)[kQuads], float* slots, int stride,
                               int offset, vf sums) {
  float* at[kQuads];
  for (int i = 0; i < kQuads; ++i) at[i] = slots + (int64_t)entries[i]->slot * stride + offset;
  store_quads(at, load_quads(at) + sums);
}

// Moments of the flows of kQuads entries over a block, added to their slots.
RECON_INLINE void add_moments(const Entry* const (&entries)[kQuads], const Block& block,
                              vf (&flows)[kQuads], float* slots, int stride) {
  // Moments of the rows in every column.
  turn_quads(flows);
  vf one = flows[0], r = {}, rr = {};
  for (int i = 1; i < kQuads; ++i) {
    one += flows[i];
    r += (float)i * flows[i];
    rr += (float)(i * i) * flows[i];
  }
  // The same in u = u0 + uy r and w = w0 + wy r, where u0 and w0 belong to the first row.
  const float* rows[kQuads];
  for (int i = 0; i < kQuads; ++i) rows[i] = &entries[i]->u0;
  const vf place = load_quads(rows);  // u0, w0, ux, uy
  for (int i = 0; i < kQuads; ++i) rows[i] = &entries[i]->wy;
  const vf uy = spread<3>(place), wy = spread<0>(load_quads(rows));
  const float y = block.y[0];
  const vf u0 = spread<0>(place) + spread<2>(place) * block.x + uy * y;
  const vf w0 = spread<1>(place) + wy * y;
  const vf u = u0 * one + uy * r, ur = u0 * r + uy * rr;
  const vf w = w0 * one + wy * r, wr = w0 * r + wy * rr;
  add_to_slots(entries, slots, stride, 0, sum_quads(one, u, w, u0 * u + uy * ur));
  add_to_slots(entries, slots, stride, 4, sum_quads(u0 * w + uy * wr, w0 * w + wy * wr));
}

// Sums of weight times gradient, for every channel and depth. kValueCount at compile time, or 0.
template <int kValueCount>
RECON_INLINE void add_values(const Entry* const (&entries)[kQuads], const Block& block, int count,
                             vf (&weights)[kQuads], float* slots, int stride) {
  turn_quads(weights);
  const auto weighted = [&](int value) {
    const float* g = plane(block, kValues + value);
    vf sum = weights[0] * repeat_quad(g);
    for (int i = 1; i < kQuads; ++i) sum += weights[i] * repeat_quad(g + 4 * i);
    return sum;
  };
  const int values = kValueCount ? kValueCount : count;
  for (int v = 0; v < values; v += 4)
    add_to_slots(entries, slots, stride, kSlotValues + v,
                 sum_quads(weighted(v), v + 1 < values ? weighted(v + 1) : vf{},
                           v + 2 < values ? weighted(v + 2) : vf{},
                           v + 3 < values ? weighted(v + 3) : vf{}));
}

// Walks a round through one block. kDepth: whether the depth has a gradient.
template <int kChannels, bool kDepth>
RECON_INLINE void composite_block_backward(const TileList& tile, const Round& round,
                                           const Block& block, float* slots) {
  const int channels = kChannels ? kChannels : tile.channels;
  const int stride = slot_stride(channels);
  vf light = load(plane(block, kLight)), behind = load(plane(block, kBehind));
  uint32_t list[Round::kEntries + 8];
  const int count = list_entries(tile, round, block.cell, list);
  for (int i = 0; i < count; i += kQuads) {
    const Entry* entries[kQuads];
    for (int k = 0; k < kQuads; ++k) entries[k] = tile.entries + list[i + k];
    vf alpha[kQuads], ratio[kQuads], flow[kQuads], weight[kQuads];
    cover(entries, block, alpha);
    for (int k = 0; k < kQuads; ++k) ratio[k] = alpha[k] / (1.0f - alpha[k]);
    mask drawn;
    for (int k = 0; k < kQuads; ++k) {
      const vf after = light - light * alpha[k];
      drawn = above(after, all(kTransmittanceMin));
      weight[k] = keep_product(drawn, light, alpha[k]);
      light = after;
      const float* color =
          kChannels ? entries[k]->color : tile.colors + (int64_t)entries[k]->id * channels;
      vf worth = load(plane(block, kValues)) * color[0];
      for (int c = 1; c < channels; ++c) worth += load(plane(block, kValues + c)) * color[c];
      if (kDepth) worth += load(plane(block, kValues + channels)) * entries[k]->depth;
      worth *= weight[k];
      behind -= worth;
      // d loss / d log alpha; where alpha is clamped it does not move.
      const mask moves = both(drawn, above(all(kAlphaMax), alpha[k]));
      flow[k] = keep(moves, worth - behind * ratio[k]);
    }
    add_moments(entries, block, flow, slots, stride);
    add_values<kChannels ? kChannels + kDepth : 0>(entries, block, channels + kDepth, weight,
                                                   slots, stride);
    if (!any(drawn)) break;
  }
  store(plane(block, kLight), light);
  store(plane(block, kBehind), behind);
}

template <int kChannels, bool kDepth>
static void composite_backward_channels(const TileList& tile, int64_t used,
                                        const Picture& picture, const PictureGradient& gradient,
                                        float* scratch, float* slots, float* to_background) {
  const int channels = kChannels ? kChannels : tile.channels;
  const int stride = slot_stride(channels);
  Round& round = *(Round*)(scratch + planes_size(tile.shift, channels));
  load_gradients(tile, picture, gradient, channels, scratch);

  uint64_t open = ~uint64_t{0};
  for (int64_t begin = 0; begin < tile.count; begin += Round::kEntries) {
    const int64_t end = begin + Round::kEntries < tile.count ? begin + Round::kEntries : tile.count;
    for (int64_t k = begin; k < end; ++k) {
      float* slot = slots + (int64_t)tile.entries[k].slot * stride;
      for (int i = 0; i < stride; ++i) slot[i] = 0;
    }
    if (begin >= used) continue;
    start_round(tile, begin, end, round);
    uint64_t still_open = 0;
    for_each_block(tile, scratch, [&](const Block& block) {
      if (!(open >> block.cell & 1)) return;
     
        composite_block_backward<kChannels, kDepth>(tile, round, block, slots);
      still_open |= (uint64_t)any(above(load(plane(block, kLight)), all(kTransmittanceMin)))
                    << block.cell;
    });
    open = still_open;
  }
  for (int c = 0; c < channels; ++c) to_background[c] = background_part(tile, picture, gradient, c);
}

static void composite_backward(const TileList& tile, int64_t used, const Picture& picture,
                               const PictureGradient& gradient, float* scratch, float* slots,
                               float* to_background) {
  auto* run = tile.channels != 3 ? composite_backward_channels<0, true>
              : gradient.depth   ? composite_backward_channels<3, true>
                                 : composite_backward_channels<3, false>;
  run(tile, used, picture, gradient, scratch, slots, to_background);
}

}  // namespace RECON_ISA
}  // namespace recon
