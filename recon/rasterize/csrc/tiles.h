// Which splats each tile blends, and in which order.
#pragma once

#include "memory.h"
#include "types.h"

namespace recon {

// Tiles of one view with their splats, as (depth, id) pairs in input order at first.
struct TileBins {
  Array<uint64_t> pairs;  // depth bits << 32 | id
  Array<uint64_t> spare;  // as large: room for sorting
  Array<int64_t> starts;  // [tiles + 1]
  int64_t slots = 0;      // pairs in all = gradient slots
};

// Throws std::length_error when there are more pairs than a slot number can hold.
TileBins bin_splats(Splat* splats, int64_t count, const TileGrid& grid, int threads);

// Sorts one tile's pairs [begin, end) by depth, ties in input order. Returns their ids, which lie in
// ``bins``.
const uint32_t* sort_tile(const TileBins& bins, int64_t begin, int64_t end);

}  // namespace recon
