#include "tiles.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "parallel.h"

namespace recon {
namespace {

// Calls visit(tile) for the tiles that a splat's box touches, in the order of its slots.
template <class Visit>
inline void for_each_tile(const Splat& s, const TileGrid& grid, const Visit& visit) {
  if (s.left > s.right) return;
  const int last_x = s.right >> grid.shift, last_y = s.bottom >> grid.shift;
  for (int y = s.top >> grid.shift; y <= last_y; ++y)
    for (int x = s.left >> grid.shift; x <= last_x; ++x) visit(y * grid.across + x);
}

uint32_t depth_bits(float depth) {
  uint32_t bits;  // positive floats are ordered as their bits
  std::memcpy(&bits, &depth, sizeof bits);
  return bits;
}

}  // namespace

TileBins bin_splats(Splat* splats, int64_t count, const TileGrid& grid, int threads) {
  const int64_t tiles = int64_t{grid.across} * grid.down;
  // Ranges of splats are counted, then written, apart; in order, so the result is the same for any
  // number of them.
  const int64_t ranges = std::clamp<int64_t>(count / 1024, 1, threads);
  auto range_begin = [=](int64_t range) { return count * range / ranges; };

  Array<int64_t> cursors(ranges * tiles);
  Array<int64_t> touched(ranges);
  parallel_for(ranges, threads, [&](int64_t range, int) {
    int64_t* counts = cursors.data() + range * tiles;
    std::fill(counts, counts + tiles, 0);
    int64_t total = 0;
    for (int64_t i = range_begin(range); i < range_begin(range + 1); ++i)
      for_each_tile(splats[i], grid, [&](int tile) {
        ++counts[tile];
        ++total;
      });
    touched[range] = total;
  });

  TileBins bins;
  bins.starts = Array<int64_t>(tiles + 1);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    bins.starts[tile] = bins.slots;
    for (int64_t range = 0; range < ranges; ++range) {
      const int64_t here = cursors[range * tiles + tile];
      cursors[range * tiles + tile] = bins.slots;
      bins.slots += here;
    }
  }
  bins.starts[tiles] = bins.slots;
  if (bins.slots + tiles > INT64_C(0xffffffff))  // every tile has a spare one, too
    throw std::length_error("more pairs of a tile and a Gaussian than can be numbered");
  for (int64_t range = 0, before = 0; range < ranges; ++range) {
    const int64_t here = touched[range];
    touched[range] = before;
    before += here;
  }

  bins.pairs = Array<uint64_t>(bins.slots);
  bins.spare = Array<uint64_t>(bins.slots);
  parallel_for(ranges, threads, [&](int64_t range, int) {
    int64_t* cursor = cursors.data() + range * tiles;
    int64_t slot = touched[range];
    for (int64_t i = range_begin(range); i < range_begin(range + 1); ++i) {
      splats[i].first_slot = static_cast<uint32_t>(slot);
      const uint64_t pair = uint64_t{depth_bits(splats[i].depth)} << 32 | static_cast<uint32_t>(i);
      for_each_tile(splats[i], grid, [&](int tile) {
        bins.pairs[cursor[tile]++] = pair;
        ++slot;
      });
    }
  });
  return bins;
}

const uint32_t* sort_tile(const TileBins& bins, int64_t begin, int64_t end) {
  const int64_t count = end - begin;
  uint64_t* from = bins.pairs.data() + begin;
  uint64_t* to = bins.spare.data() + begin;
  constexpr int64_t kShort = 48;  // below, comparing is faster than counting
  if (count <= kShort) {
    // Ids rise within equal depths, so that sorting whole pairs is stable.
    std::sort(from, from + count);
  } else {
    // Radix sort by the bytes of the depth in which the tile's splats differ at all.
    uint64_t differ = 0;
    for (int64_t i = 1; i < count; ++i) differ |= from[i] ^ from[0];
    for (int byte = 32; byte < 64; byte += 8) {
      if (!(differ >> byte & 0xff)) continue;
      uint32_t position[256] = {};
      for (int64_t i = 0; i < count; ++i) ++position[from[i] >> byte & 0xff];
      uint32_t sum = 0;
      for (uint32_t& p : position) {
        const uint32_t here = p;
        p = sum;
        sum += here;
      }
      for (int64_t i = 0; i < count; ++i) to[position[from[i] >> byte & 0xff]++] = from[i];
      std::swap(from, to);
    }
  }
  uint32_t* ids = reinterpret_cast<uint32_t*>(to);
  for (int64_t i = 0; i < count; ++i) ids[i] = static_cast<uint32_t>(from[i]);
  return ids;
}

}  // namespace recon
