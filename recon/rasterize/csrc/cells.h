// What blending works on: the cells of a tile, and the entries that reach each of them.
#pragma once

#include "functions.h"

namespace recon {
namespace RECON_ISA {

// Entries are taken in rounds of so many times 64.
constexpr int kRoundGroups = 32;

struct Round {
  const Reach* reach;
  int64_t begin, end;  // entries
};

RECON_INLINE Round round_from(const TileList& tile, int64_t begin) {
  const int64_t end = begin + 64 * kRoundGroups;
  return {tile.reach + begin / 64, begin, end < tile.count ? end : tile.count};
}

// The entries of a round that reach a cell, front to back; then, kSpareEntries of them, those that
// cover nothing. There is no branch that depends on where they lie: that cannot be predicted.
class CellEntries {
 public:
  RECON_INLINE CellEntries(const TileList& tile, const Round& round, int cell)
      : entries_(tile.entries) {
    int words = 0;
    const Reach* reach = round.reach;
    for (int64_t first = round.begin; first < round.end; first += 64, ++reach) {
      words_[words] = reach->entries[cell];
      firsts_[words] = (uint32_t)first;
      count_ += __builtin_popcountll(words_[words]);
      words += words_[words] != 0;
    }
    words_[words] = ~uint64_t{0} >> (64 - kSpareEntries);
    firsts_[words] = (uint32_t)tile.count;
    bits_ = words_[0];
    next();
  }

  RECON_INLINE int count() const { return count_; }

  RECON_INLINE const Entry& next() {
    const uint32_t index = firsts_[word_] + (uint32_t)__builtin_ctzll(bits_);
    bits_ &= bits_ - 1;
    const int64_t done = bits_ == 0;
    word_ += done;
    bits_ |= words_[word_] & (uint64_t)-done;
    const Entry* const now = upcoming_;
    upcoming_ = entries_ + index;
    __builtin_prefetch(upcoming_);
    return *now;
  }

 private:
  const Entry* entries_;
  const Entry* upcoming_ = entries_;  // asked for one ahead: they lie too far apart to be guessed
  int count_ = 0;
  int64_t word_ = 0;
  uint64_t bits_;
  uint64_t words_[kRoundGroups + 1];
  uint32_t firsts_[kRoundGroups + 1];
};

// The pixels of a cell.
typedef vf Pixels[kCellVectors];

// A cell of a tile.
struct Cell {
  int index;  // as in Reach
  vf x;       // its pixels, from the middle of the tile: the same in every vector
  Pixels y;
  float* planes;

  RECON_INLINE Cell(const TileList& tile, int column, int row, float* cell_planes)
      : index(row / kCellSide * kMaxCellsAcross + column / kCellSide), planes(cell_planes) {
    const int middle = (1 << tile.shift) / 2;
    x = kColumns + (float)(column - middle);
    for (int v = 0; v < kCellVectors; ++v) y[v] = kRows + (float)(row + v * kQuads - middle);
  }
};

RECON_INLINE float* plane(const Cell& cell, int which) { return cell.planes + which * kCellPixels; }
RECON_INLINE void load_pixels(const Cell& cell, int which, Pixels& out) {
  for (int v = 0; v < kCellVectors; ++v) out[v] = load(plane(cell, which) + v * kLanes);
}
RECON_INLINE void store_pixels(const Cell& cell, int which, const Pixels& in) {
  for (int v = 0; v < kCellVectors; ++v) store(plane(cell, which) + v * kLanes, in[v]);
}

// Whether light is left in any pixel of a cell.
RECON_INLINE bool any_lit(const Cell& cell) {
  Pixels light;
  load_pixels(cell, kLight, light);
  bool lit = false;
  for (int v = 0; v < kCellVectors; ++v) lit |= any(above(light[v], all(kTransmittanceMin)));
  return lit;
}

// Calls visit(cell) for every cell of the tile.
template <class Visit>
RECON_INLINE void for_each_cell(const TileList& tile, float* planes, const Visit& visit) {
  const int size = 1 << tile.shift, count = plane_count(tile.channels);
  for (int y = 0; y < size; y += kCellSide)
    for (int x = 0; x < size; x += kCellSide, planes += count * kCellPixels)
      visit(Cell(tile, x, y, planes));
}

// The part of a picture that a tile covers.
struct Window {
  int left, top, across, down;  // pixels

  RECON_INLINE explicit Window(const TileList& tile) {
    const int size = 1 << tile.shift;
    left = tile.tile_x * size;
    top = tile.tile_y * size;
    across = tile.width - left < size ? tile.width - left : size;
    down = tile.height - top < size ? tile.height - top : size;
  }
};

// Calls visit(pixel of the picture, its place in the first plane, n) for every row of a cell: n
// pixels, 4 except at the picture's edge.
template <class Visit>
RECON_INLINE void for_each_run(const TileList& tile, float* planes, const Visit& visit) {
  const Window window(tile);
  const int64_t cell = int64_t{plane_count(tile.channels)} * kCellPixels;
  const int cells_across = (1 << tile.shift) / kCellSide;
  for (int y = 0; y < window.down; ++y) {
    const int64_t pixel = int64_t{window.top + y} * tile.width + window.left;
    float* const row = planes + y / kCellSide * cells_across * cell + y % kCellSide * kCellSide;
    const int whole = window.across / kCellSide, rest = window.across % kCellSide;
    for (int i = 0; i < whole; ++i) visit(pixel + i * kCellSide, row + i * cell, kCellSide);
    if (rest) visit(pixel + whole * kCellSide, row + whole * cell, rest);
  }
}

RECON_INLINE void clear_planes(const TileList& tile, float* planes) {
  const int64_t size = tile_scratch(tile.shift, tile.channels);
  for (int64_t i = 0; i < size; i += kLanes) store(planes + i, vf{});
}

// A value of kQuads entries over a cell: vector v of entry k at kCellVectors k + v.
constexpr int kGroupVectors = kQuads * kCellVectors;
typedef vf Grouped[kGroupVectors];

// kQuads entries, and their alpha over a cell: 0 out of reach.
struct Group {
  const Entry* entries[kQuads];
  Grouped alpha;
};

RECON_INLINE Group cover(CellEntries& entries, const Cell& cell) {
  Group group;
  Grouped exponent;
  for (int i = 0; i < kQuads; ++i) {
    const Entry& e = entries.next();
    group.entries[i] = &e;
    const vf along_x = e.u0 + e.ux * cell.x;
    for (int v = 0; v < kCellVectors; ++v) {
      const vf u = along_x + e.uy * cell.y[v], w = e.w0 + e.wy * cell.y[v];
      exponent[i * kCellVectors + v] = e.log2_opacity - u * u - w * w;
    }
  }
  exp2_small(exponent, group.alpha);
  for (int i = 0; i < kGroupVectors; ++i)
    group.alpha[i] = keep(at_least(exponent[i], all(kExponentMin)),
                          smaller(group.alpha[i], all(kAlphaMax)));
  return group;
}

// Calls blend(group), which returns whether light is left, then finish(group), for the entries of
// a round that reach a cell, front to back. Alpha is computed one group ahead, between the two: in
// each step the processor finds work that need not wait for the results of the one before.
template <class Blend, class Finish>
RECON_INLINE void for_each_group(const TileList& tile, const Round& round, const Cell& cell,
                                 const Blend& blend, const Finish& finish) {
  CellEntries entries(tile, round, cell.index);
  Group group = cover(entries, cell);
  for (int i = 0; i < entries.count(); i += kQuads) {
    const bool lit = blend(group);
    const Group next = cover(entries, cell);
    finish(group);
    if (!lit) return;
    group = next;
  }
}

}  // namespace RECON_ISA
}  // namespace recon
