// The derivative of blending one tile.
//
// With g the gradient of a pixel's features and worth_i = feature_i . g,
//   d loss / d alpha_i = T_i worth_i - behind_i / (1 - alpha_i),
//   behind_i = sum_{j > i} weight_j worth_j + T_end d loss / d T_end:
// more of splat i shows more of it and dims all that lies behind it. The tile is walked front to
// back once more; ``behind`` starts as the whole sum, which the finished picture gives, and every
// splat takes its own part off. So nothing per pixel and splat is ever stored.
//
// Sums over the pixels of a cell are taken for kQuads splats at once: turned, so that every quad
// of lanes holds one splat, their rows are plain vectors to be added.
#pragma once

#include "cells.h"

namespace recon {
namespace RECON_ISA {

// Gradients of the tile's pixels: ``behind`` before the first splat, channels, depth sum.
//
// The picture holds expected depth E = D / a, a = 1 - T_end, and image = sums + T_end background:
//   d loss / dD = gE / a,   d loss / da = gA - gE E / a - gImage . background (in all),
// so that the whole sum is image . gImage + E gE - T_end (gA - gE E / a).
RECON_INLINE void load_gradients(const TileList& tile, const Picture& picture,
                                 const PictureGradient& gradient, int channels, float* planes) {
  clear_planes(tile, planes);
  for_each_run(tile, planes, [&](int64_t pixel, float* run, int n) {
    float* const behind = run + kBehind * kCellPixels;
    for (int i = 0; i < n; ++i) {
      const float alpha = picture.alpha[pixel + i];
      float to_alpha = gradient.alpha ? gradient.alpha[pixel + i] : 0, total = 0;
      if (gradient.depth && alpha > 0) {
        const float to_depth = gradient.depth[pixel + i] / alpha;
        run[(kValues + channels) * kCellPixels + i] = to_depth;
        to_alpha -= to_depth * picture.depth[pixel + i];
        total = gradient.depth[pixel + i] * picture.depth[pixel + i];
      }
      run[kLight * kCellPixels + i] = 1;
      behind[i] = total - (1 - alpha) * to_alpha;
    }
    if (!gradient.image) return;
    const float* const g = gradient.image + pixel * channels;
    const float* const image = picture.image + pixel * channels;
    for (int i = 0; i < n; ++i)
      for (int c = 0; c < channels; ++c) {
        run[(kValues + c) * kCellPixels + i] = g[i * channels + c];
        behind[i] += g[i * channels + c] * image[i * channels + c];
      }
  });
}

// The background shows through 1 - alpha.
RECON_INLINE float background_part(const TileList& tile, const Picture& picture,
                                   const PictureGradient& gradient, int channel) {
  if (!gradient.image) return 0;
  const Window window(tile);
  double sum = 0;
  for (int y = 0; y < window.down; ++y)
    for (int x = 0; x < window.across; ++x) {
      const int64_t pixel = int64_t{window.top + y} * tile.width + window.left + x;
      sum += (1 - picture.alpha[pixel]) * gradient.image[pixel * tile.channels + channel];
    }
  return (float)sum;
}

// Quad i of sums[k] holds numbers 4 k to 4 k + 3 of entry i: adds them to the 16 at its slot.
RECON_INLINE void add_to_slots(float* const (&slots)[kQuads], const vf (&sums)[4]) {
  for (int first = 0; first < 4; first += kQuads) {
    vf rows[kQuads];
    for (int i = 0; i < kQuads; ++i) rows[i] = sums[first + i];
    turn_quads(rows);
    for (int i = 0; i < kQuads; ++i) {
      float* const at = slots[i] + 4 * first;
      store(at, load(at) + rows[i]);
    }
  }
}

// Values of a group over a cell, turned: of row r, quad i of rows[r] is entry i's.
RECON_INLINE void turn_rows(const Grouped& values, vf (&rows)[kCellSide]) {
  for (int v = 0; v < kCellVectors; ++v) {
    vf turned[kQuads];
    for (int i = 0; i < kQuads; ++i) turned[i] = values[i * kCellVectors + v];
    turn_quads(turned);
    for (int i = 0; i < kQuads; ++i) rows[v * kQuads + i] = turned[i];
  }
}

// Moments of the flows of a group over a cell, in the order of a slot.
RECON_INLINE void moments(const Group& group, const Cell& cell, const Grouped& flows,
                          vf& first, vf& second) {
  // Moments of the rows in every column.
  vf f[kCellSide];
  turn_rows(flows, f);
  const vf late = f[2] + f[3], odd = f[1] + f[3];
  const vf one = (f[0] + f[2]) + odd, r = odd + 2.0f * late;
  const vf rr = odd + 4.0f * (late + f[3]);
  // The same in u = u0 + uy r and w = w0 + wy r, where u0 and w0 belong to the first row.
  const float *places[kQuads], *shapes[kQuads];
  for (int i = 0; i < kQuads; ++i) {
    places[i] = &group.entries[i]->u0;
    shapes[i] = &group.entries[i]->wy;
  }
  const vf place = load_quads(places);  // u0, w0, ux, uy
  const vf uy = spread<3>(place), wy = spread<0>(load_quads(shapes));
  const float y = cell.y[0][0];
  const vf u0 = spread<0>(place) + spread<2>(place) * cell.x + uy * y;
  const vf w0 = spread<1>(place) + wy * y;
  const vf u = u0 * one + uy * r, ur = u0 * r + uy * rr;
  const vf w = w0 * one + wy * r, wr = w0 * r + wy * rr;
  first = sum_quads(one, u, w, u0 * u + uy * ur);
  second = sum_quads(u0 * w + uy * wr, w0 * w + wy * wr);
}

// Walks a round through one cell. kDepth: whether the depth has a gradient.
template <int kChannels, bool kDepth>
RECON_INLINE void composite_cell_backward(const TileList& tile, const Round& round,
                                          const Cell& cell, float* slots) {
  const int channels = kChannels ? kChannels : tile.channels, values = channels + kDepth;
  const int stride = slot_stride(channels);
  Pixels light, behind;
  Grouped flow, weight;
  load_pixels(cell, kLight, light);
  load_pixels(cell, kBehind, behind);
  const auto blend = [&](const Group& group) RECON_INLINE_LAMBDA {
    bool lit = false;
    for (int k = 0; k < kQuads && kCellVectors > 1; ++k)
      __builtin_prefetch(slots + (int64_t)group.entries[k]->slot * stride, 1);
    for (int k = 0; k < kQuads; ++k) {
      const Entry& entry = *group.entries[k];
      const float* color = kChannels ? entry.color : tile.colors + (int64_t)entry.id * channels;
      for (int v = 0; v < kCellVectors; ++v) {
        const int i = k * kCellVectors + v;
        const auto gradient = [&](int value) {
          return load(plane(cell, kValues + value) + v * kLanes);
        };
        const vf alpha = group.alpha[i], after = light[v] - light[v] * alpha;
        const mask blended = above(after, all(kTransmittanceMin));
        weight[i] = keep_product(blended, light[v], alpha);
        light[v] = after;
        vf worth = gradient(0) * color[0];
        for (int c = 1; c < channels; ++c) worth += gradient(c) * color[c];
        if (kDepth) worth += gradient(channels) * entry.depth;
        worth *= weight[i];
        behind[v] -= worth;
        // d loss / d log alpha; where alpha is clamped it does not move.
        const mask moves = both(blended, above(all(kAlphaMax), alpha));
        flow[i] = keep(moves, worth - behind[v] * (alpha / (1.0f - alpha)));
        if (k == kQuads - 1) lit |= any(blended);
      }
    }
    return lit;
  };
  const auto add_up = [&](const Group& group) RECON_INLINE_LAMBDA {
    float* at[kQuads];
    for (int k = 0; k < kQuads; ++k) at[k] = slots + (int64_t)group.entries[k]->slot * stride;
    vf sums[4];
    moments(group, cell, flow, sums[0], sums[1]);
    // Weight times gradient, summed over the cell.
    vf rows[kCellSide];
    turn_rows(weight, rows);
    const auto weighted = [&](int value) {
      if (value >= values) return vf{};
      const float* g = plane(cell, kValues + value);
      vf sum = rows[0] * repeat_quad(g);
      for (int i = 1; i < kCellSide; ++i) sum += rows[i] * repeat_quad(g + 4 * i);
      return sum;
    };
    const auto four = [&](int first) {
      return first < values ? sum_quads(weighted(first), weighted(first + 1), weighted(first + 2),
                                        weighted(first + 3))
                            : vf{};
    };
    sums[2] = four(0);
    sums[3] = four(4);
    add_to_slots(at, sums);
    for (int value = 8; value < values; value += 16) {
      for (int k = 0; k < 4; ++k) sums[k] = four(value + 4 * k);
      for (int k = 0; k < kQuads; ++k) at[k] += 16;
      add_to_slots(at, sums);
    }
  };
  for_each_group(tile, round, cell, blend, add_up);
  store_pixels(cell, kLight, light);
  store_pixels(cell, kBehind, behind);
}

template <int kChannels, bool kDepth>
static void composite_backward_channels(const TileList& tile, int64_t used,
                                        const Picture& picture, const PictureGradient& gradient,
                                        float* scratch, float* slots, float* to_background) {
  const int channels = kChannels ? kChannels : tile.channels;
  const int stride = slot_stride(channels);
  load_gradients(tile, picture, gradient, channels, scratch);

  uint64_t open = ~uint64_t{0};
  for (int64_t begin = 0; begin < tile.count;) {
    const Round round = round_from(tile, begin);
    for (int64_t k = begin; k < round.end; ++k) {
      constexpr int64_t kAhead = 16;
      const Entry& later = tile.entries[k + kAhead < tile.count ? k + kAhead : k];
      __builtin_prefetch(slots + (int64_t)later.slot * stride, 1);
      float* slot = slots + (int64_t)tile.entries[k].slot * stride;
      for (int i = 0; i < stride; i += kLanes) store(slot + i, vf{});
    }
    begin = round.end;
    if (round.begin >= used) continue;
    uint64_t still_open = 0;
    for_each_cell(tile, scratch, [&](const Cell& cell) RECON_INLINE_LAMBDA {
      if (!(open >> cell.index & 1)) return;
      composite_cell_backward<kChannels, kDepth>(tile, round, cell, slots);
      still_open |= (uint64_t)any_lit(cell) << cell.index;
    });
    open = still_open;
  }
  if (!to_background) return;
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
