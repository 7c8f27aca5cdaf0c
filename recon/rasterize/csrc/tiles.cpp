#include "tiles.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace recon {
namespace {

// Calls visit(tile) for the tiles of a splat, in the order of its slots.
template <class Visit>
inline void for_each_tile(const TileRange& s, const TileGrid& grid, const Visit& visit) {
  for (int y = s.top; y <= s.bottom; ++y)
    for (int x = s.left; x <= s.right; ++x) visit(int64_t{y} * grid.across + x);
}

uint32_t depth_bits(float depth) {
  uint32_t bits;  // positive floats are ordered as their bits
  std::memcpy(&bits, &depth, sizeof bits);
  return bits;
}

}  // namespace

TileBins::TileBins(int64_t count, const TileGrid& grid, int threads)
    : first_slots(count + 1), count_(count), tiles_(int64_t{grid.across} * grid.down),
      ranges_(std::clamp<int64_t>(count / 4096, 1, threads == 1 ? 1 : 4 * threads)), grid_(grid),
      splats_(count), cursors_(ranges_ * tiles_), touched_(ranges_) {
  std::fill_n(cursors_.data(), ranges_ * tiles_, 0u);
  std::fill_n(touched_.data(), ranges_, 0);
}

void TileBins::count(int64_t range, const Splat* splats, int64_t begin, int64_t end) {
  uint32_t* const counts = cursors_.data() + range * tiles_;
  int64_t total = touched_[range];
  for (int64_t i = begin; i < end; ++i) {
    const Splat& s = splats[i];
    TileRange& tiles = splats_[i];
    first_slots[i] = static_cast<uint32_t>(total);
    if (s.left > s.right) {
      tiles = {1, 0, 1, 0, 0};
      continue;
    }
    const auto tile = [this](int pixel) { return static_cast<uint16_t>(pixel >> grid_.shift); };
    tiles = {tile(s.left), tile(s.right), tile(s.top), tile(s.bottom), s.depth};
    for_each_tile(tiles, grid_, [&](int64_t tile) { ++counts[tile]; });
    total += int64_t{tiles.right - tiles.left + 1} * (tiles.bottom - tiles.top + 1);
  }
  touched_[range] = total;
}

void TileBins::number() {
  starts = Array<int64_t>(tiles_ + 1);
  for (int64_t range = 0; range < ranges_; ++range) slots += touched_[range];
  if (slots > INT64_C(0xffffffff))
    throw std::length_error("more pairs of a tile and a Gaussian than can be numbered");
  int64_t before = 0;
  for (int64_t tile = 0; tile < tiles_; ++tile) {
    starts[tile] = before;
    for (int64_t range = 0; range < ranges_; ++range) {
      uint32_t& cursor = cursors_[range * tiles_ + tile];
      const uint32_t here = cursor;
      cursor = static_cast<uint32_t>(before);
      before += here;
    }
  }
  starts[tiles_] = before;
  before = 0;
  for (int64_t range = 0; range < ranges_; ++range) {
    const int64_t here = touched_[range];
    touched_[range] = before;
    before += here;
  }
  first_slots[count_] = static_cast<uint32_t>(slots);
  keys_ = Array<uint64_t>(slots);
  spare_ = Array<uint64_t>(slots);
}

void TileBins::file(int64_t range) {
  uint32_t* const cursor = cursors_.data() + range * tiles_;
  const uint32_t before = static_cast<uint32_t>(touched_[range]);
  for (int64_t i = range_begin(range); i < range_begin(range + 1); ++i) {
    const TileRange& splat = splats_[i];
    first_slots[i] += before;
    const uint64_t key = uint64_t{depth_bits(splat.depth)} << 32 | static_cast<uint32_t>(i);
    for_each_tile(splat, grid_, [&](int64_t tile) { keys_[cursor[tile]++] = key; });
  }
}

const uint64_t* TileBins::sort(int64_t begin, int64_t end) {
  const int64_t count = end - begin;
  uint64_t* from = keys_.data() + begin;
  uint64_t* to = spare_.data() + begin;
  constexpr int64_t kShort = 48;  // below, comparing is faster than counting
  if (count <= kShort) {
    // Splats rise within equal depths, so that sorting whole words is stable.
    std::sort(from, from + count);
  } else {
    // Radix sort by the bytes of the depth in which the tile's splats differ at all.
    uint32_t positions[4][256] = {};
    for (int64_t i = 0; i < count; ++i)
      for (int byte = 0; byte < 4; ++byte) ++positions[byte][from[i] >> (32 + 8 * byte) & 0xff];
    for (int byte = 0; byte < 4; ++byte) {
      uint32_t* const position = positions[byte];
      const int shift = 32 + 8 * byte;
      if (position[from[0] >> shift & 0xff] == count) continue;
      uint32_t sum = 0;
      for (int value = 0; value < 256; ++value) {
        const uint32_t here = position[value];
        position[value] = sum;
        sum += here;
      }
      for (int64_t i = 0; i < count; ++i) to[position[from[i] >> shift & 0xff]++] = from[i];
      std::swap(from, to);
    }
  }
  return from;
}

}  // namespace recon
