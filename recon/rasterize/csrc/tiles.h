// Which splats each tile blends, and in which order.
#pragma once

#include "memory.h"
#include "types.h"

namespace recon {

// What binning needs of a splat: its tiles, empty where left > right, and its depth.
struct TileRange {
  uint16_t left, right, top, bottom;
  float depth;
};

// Splats of one view by tile. Splats are counted and sorted in ranges, apart; as these are put
// together in order, the result is the same for any number of them.
class TileBins {
 public:
  TileBins(int64_t count, const TileGrid& grid, int threads);

  int64_t ranges() const { return ranges_; }
  int64_t range_begin(int64_t range) const { return count_ * range / ranges_; }
  // Counts splats of a range; in order, several calls for each range.
  void count(int64_t range, const Splat* splats, int64_t begin, int64_t end);
  // Numbers the slots. Throws std::length_error when there are more than a number can hold.
  void number();
  // Files the splats of a range.
  void file(int64_t range);
  // Sorts the splats [begin, end), one tile's, by depth, ties in input order. The low half of each
  // word is the number of a splat. They lie in here.
  const uint64_t* sort(int64_t begin, int64_t end);

  Array<int64_t> starts;        // [tiles + 1] where each tile's pairs begin
  Array<uint32_t> first_slots;  // [count + 1] slots are numbered splat after splat
  int64_t slots = 0;

 private:
  int64_t count_, tiles_, ranges_;
  TileGrid grid_;
  Array<TileRange> splats_;   // [count]
  Array<uint32_t> cursors_;   // [ranges, tiles]
  Array<int64_t> touched_;    // [ranges] pairs
  Array<uint64_t> keys_;      // [slots] depth bits << 32 | splat
  Array<uint64_t> spare_;     // [slots] room for sorting
};

}  // namespace recon
