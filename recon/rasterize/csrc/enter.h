// Splats to the entries of a tile: where each lies, and which cells it reaches.
#pragma once

#include "functions.h"

namespace recon {
namespace RECON_ISA {

// Splats as ellipses: where each is at least 1/255.
//
// An ellipse u^2 + w^2 = budget spans, at height dy, ux dx = -uy dy +- sqrt(budget - w^2). Over a
// range of heights it ends furthest right at ``furthest`` or, beyond, at the end of the range that
// is nearest to it; furthest left at the height opposite. All in pixels from the splats' centres.
struct Ellipses {
  vf slope, per_ux, wy, budget, height, furthest;
};

RECON_INLINE Ellipses ellipses(vf ux, vf uy, vf wy, vf log2_opacity) {
  Ellipses e;
  e.budget = log2_opacity - (kExponentMin - 1e-3f);
  e.per_ux = 1.0f / larger(ux, all(1e-30f));
  e.slope = -uy * e.per_ux;
  e.wy = wy;
  const vf root = square_root_above(e.budget), safe = larger(wy, all(1e-30f));
  e.height = root / safe;
  e.furthest = -e.height * uy / square_root_above(safe * safe + uy * uy);
  return e;
}

// Of the row of cells that begins at height ``top``, those that each splat reaches, a bit for each;
// the row's first pixel lies ``x0`` from the centre. Perhaps a few more, by rounding.
RECON_INLINE vu cells_in_row(const Ellipses& e, vf top, vf x0, int size) {
  constexpr float kSlack = 1e-2f;  // pixels, against rounding
  const vf from = larger(top, -e.height), to = smaller(top + (float)(kCellSide - 1), e.height);
  const auto half_width = [&](vf dy) {
    const vf w = e.wy * dy;
    return square_root_above(larger(e.budget - w * w, vf{})) * e.per_ux + kSlack;
  };
  const vf dy_high = smaller(larger(e.furthest, from), to);
  const vf dy_low = smaller(larger(-e.furthest, from), to);
  const vf high = e.slope * dy_high + half_width(dy_high) - x0;
  const vf low = e.slope * dy_low - half_width(dy_low) - x0;
  // Bounded before the conversion to integers: a needle may cross far outside. What is not a number
  // becomes a bound.
  const vi last = to_int(larger(smaller(high, all((float)(size - 1))), all(-1.0f)) + 1.0f) - 1;
  const vi first = to_int(smaller(larger(low, all(-1.0f)), all((float)size)) + 1.0f);
  const vu bits =
      ((vu{} + 2u) << (vu)(last >> kCellShift)) - ((vu{} + 1u) << (vu)(first >> kCellShift));
  return bits & (vu)((first <= last) & (from <= to));
}

// Of a matrix of 64 x 64 bits, swaps the blocks of ``side`` beside the diagonal in all blocks twice
// as large (Warren, Hacker's Delight, 7-3).
template <int side>
RECON_INLINE void swap_blocks(uint64_t* rows, uint64_t low_half) {
  for (int block = 0; block < 64; block += 2 * side)
    for (int i = block; i < block + side; ++i) {
      const uint64_t differ = (rows[i] >> side ^ rows[i + side]) & low_half;
      rows[i + side] ^= differ;
      rows[i] ^= differ << side;
    }
}

// Bit k of row i becomes bit i of row k.
RECON_INLINE void transpose_bits(uint64_t* rows) {
  swap_blocks<32>(rows, 0x00000000ffffffff);
  swap_blocks<16>(rows, 0x0000ffff0000ffff);
  swap_blocks<8>(rows, 0x00ff00ff00ff00ff);
  swap_blocks<4>(rows, 0x0f0f0f0f0f0f0f0f);
  swap_blocks<2>(rows, 0x3333333333333333);
  swap_blocks<1>(rows, 0x5555555555555555);
}

static void enter(const TileList& tile, const Splat* splats, const uint32_t* first_slots,
                  const uint64_t* sorted) {
  const int size = 1 << tile.shift, half = size / 2;
  const int middle_x = tile.tile_x * size + half, middle_y = tile.tile_y * size + half;
  uint64_t cells[64];  // of every entry, bit kMaxCellsAcross * row + column
  for (int64_t k = 0; k < tile.count; k += kLanes) {
    // Splats are read in depth order, which jumps about in memory: ask for them ahead of time, and
    // for the lines to be written.
    constexpr int64_t kAhead = 2 * kLanes;
    for (int64_t a = k + kAhead; a < k + kAhead + kLanes && a < tile.count; ++a) {
      __builtin_prefetch(splats + (uint32_t)sorted[a]);
      __builtin_prefetch(tile.entries + a, 1);
    }

    // Beyond the end, the last splat again, into the spare entries.
    const float* rows[kLanes];
    float* out[kLanes];
    uint32_t id[kLanes], first_slot[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      id[i] = (uint32_t)sorted[k + i < tile.count ? k + i : tile.count - 1];
      first_slot[i] = first_slots[id[i]];
      rows[i] = &splats[id[i]].x;
      out[i] = &tile.entries[k + i].u0;
    }
    vf place[4], shape[4], value[4], box[4];
    load_columns(rows, 0, place);   // x, y, ux, uy
    load_columns(rows, 4, shape);   // wy, log2_opacity, ..
    load_columns(rows, 8, value);   // color, depth
    load_columns(rows, 12, box);    // left, right, top, bottom
    const vi left = (vi)box[0], top = (vi)box[2];
    const vf ux = place[2], uy = place[3], wy = shape[0], log2_opacity = shape[1];
    const vf dx = __builtin_convertvector(middle_x - left, vf) + (0.5f - place[0]);
    const vf dy = __builtin_convertvector(middle_y - top, vf) + (0.5f - place[1]);
    const Ellipses reach = ellipses(ux, uy, wy, log2_opacity);
    // Row by row of each splat's own, for these are fewer than the tile's.
    const vi from = top - tile.tile_y * size, to = (vi)box[3] - tile.tile_y * size;
    const vi last_row = (to < size ? to : vi{} + (size - 1)) >> kCellShift;
    vi row = (from > 0 ? from : vi{}) >> kCellShift;
    vu upper = {}, lower = {};
    for (vi left_over = row <= last_row; any(left_over); left_over = ++row <= last_row) {
      const vf row_top = dy + (__builtin_convertvector(row << kCellShift, vf) - (float)half);
      const vu bits = cells_in_row(reach, row_top, dx - (float)half, size) & (vu)left_over;
      const vu placed = bits << (vu)((row & 3) << 3);
      const vu is_upper = (vu)(row < 4);
      upper |= placed & is_upper;
      lower |= placed & ~is_upper;
    }

    vu ids, slots;
    std::memcpy(&ids, id, sizeof ids);
    std::memcpy(&slots, first_slot, sizeof slots);
    // The tiles of a box are numbered row by row.
    const vi first_tile = left >> tile.shift, last_tile = (vi)box[1] >> tile.shift;
    slots += (vu)((tile.tile_y - (top >> tile.shift)) * (last_tile - first_tile + 1) +
                  (tile.tile_x - first_tile));
    store_columns(out, 0, ux * dx + uy * dy, wy * dy, ux, uy);
    store_columns(out, 4, wy, log2_opacity, (vf)slots, (vf)ids);
    store_columns(out, 8, value[0], value[1], value[2], value[3]);
    uint32_t halves[2][kLanes];
    std::memcpy(halves[0], &upper, sizeof upper);
    std::memcpy(halves[1], &lower, sizeof lower);
    for (int i = 0; i < kLanes; ++i)
      cells[k % 64 + i] = (uint64_t)halves[1][i] << 32 | halves[0][i];
    if (k % 64 + kLanes == 64 || k + kLanes >= tile.count) {
      for (int64_t i = tile.count - k / 64 * 64; i < 64; ++i) cells[i] = 0;
      transpose_bits(cells);
      std::memcpy(tile.reach + k / 64, cells, sizeof cells);
    }
  }
  for (int i = 0; i < kSpareEntries; ++i)
    tile.entries[tile.count + i] = Entry{0, 0, 0, 0, 0, -1e3f, tile.spare_slot, 0, {0, 0, 0}, 0};
}

}  // namespace RECON_ISA
}  // namespace recon
