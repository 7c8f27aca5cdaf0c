// Plain data that passes between the engine and the kernels of every instruction set.
//
// No functions with code here: this header is compiled with different instruction sets, and the
// linker keeps only one copy of an out-of-line inline function.
#pragma once

#include <cstdint>

namespace recon {

// A contribution below one step of an 8-bit picture is not blended.
constexpr double kAlphaMin = 1.0 / 255.0;
constexpr float kExponentMin = -7.9943534f;  // log2 of that
constexpr float kAlphaMax = 0.999f;
// A Gaussian that would leave no more light than this ends the pixel and is not blended itself.
constexpr float kTransmittanceMin = 1e-4f;
// Pixels^2 added to both axes of every footprint, so that none falls between pixel centres.
constexpr double kBlur = 0.3;
// The affine approximation is taken no further than this share of half the field of view beyond the
// edges of the image: further out it would blow footprints up without bound.
constexpr double kEdgeMargin = 0.3;

// One scene, activated values, row-major. Any value may be NaN or infinite.
struct Gaussians {
  int64_t count;
  int32_t channels;
  int32_t sh_degree;       // 0 to 3, with three channels; or kPlainColors
  const float* means;      // [count, 3]
  const float* quats;      // [count, 4] w, x, y, z, any non-zero length
  const float* scales;     // [count, 3]
  const float* opacities;  // [count]
  const float* colors;     // [count, channels], or coefficients [count, (sh_degree + 1)^2, 3]
};
constexpr int32_t kPlainColors = -1;

struct GaussianGradients {
  float* means;
  float* quats;
  float* scales;
  float* opacities;
  float* colors;
};

struct Camera {
  double rotation[9];  // row-major, camera from world
  double translation[3];
  double centre[3];  // in the world
  double fx, fy, cx, cy;  // pixels
  double near, far;       // camera z
  int32_t width, height;
};

struct CameraGradient {
  double rotation[9];
  double translation[3];
  double centre[3];  // only what colours say to it, as if it were apart from the others
  double fx, fy, cx, cy;
};

// A projected Gaussian. With d = (pixel centre - centre of the splat), it covers a pixel by
//   alpha = min(0.999, 2^(log2_opacity - u^2 - w^2)),   u = ux dx + uy dy,   w = wy dy,
// which is opacity exp(-d^T Sigma^-1 d / 2) with the inverse covariance in Cholesky form. The
// quadratic form itself would lose a needle's width to cancellation in float32; u and w do not.
//
// One cache line, in quads of four: they are read and written by vectors of rows.
struct alignas(64) Splat {
  float x, y;  // centre, relative to the corner of pixel (left, top): exact on images of any size
  float ux, uy;
  float wy, log2_opacity;
  float unused[2];
  float color[3];  // where there are three channels; others are read from the scene
  float depth;     // camera z
  int32_t left, right, top, bottom;  // pixels that it can reach, inclusive; left > right: none
};

// Square tiles of 2^shift pixels, of cells of 4 x 4 pixels: at most 64, a bit for each in a word.
struct TileGrid {
  int32_t shift, across, down;
};
constexpr int kMinTileShift = 4, kMaxTileShift = 5;
constexpr int kCellShift = 2, kCellSide = 1 << kCellShift, kCellPixels = kCellSide * kCellSide;
constexpr int kMaxCellsAcross = (1 << kMaxTileShift) / kCellSide;
constexpr int kMaxCells = kMaxCellsAcross * kMaxCellsAcross;

// A splat as a tile sees it: one cache line, with all that a pixel asks for.
struct alignas(64) Entry {
  float u0, w0;  // u and w in the middle of the tile
  float ux, uy, wy, log2_opacity;
  uint32_t slot, id;
  float color[3];  // where there are three channels; others are read from the scene
  float depth;
};

// Which cells of a tile 64 of its entries reach: a word for each cell, kMaxCellsAcross to a row,
// with a bit for each entry.
struct alignas(64) Reach {
  uint64_t entries[kMaxCells];
};

// Entries that cover nothing, behind the others: splats are taken several at a time.
constexpr int kSpareEntries = 16;

// What one tile of one view blends, nearest first.
struct TileList {
  const float* colors;  // [.., channels], by id
  Entry* entries;       // [count + kSpareEntries]
  Reach* reach;         // [ceil(count / 64)]
  int64_t count;
  uint32_t spare_slot;  // for the spare entries of this tile alone: no one reads it
  int32_t channels;
  int32_t tile_x, tile_y;  // in tiles
  int32_t shift;
  int32_t width, height;  // of the image
};

// Pictures of one view; the gradient pointers may be null (no gradient).
struct Picture {
  float* image;  // [height, width, channels]
  float* depth;  // [height, width] expected camera z
  float* alpha;  // [height, width]
};
struct PictureGradient {
  const float *image, *depth, *alpha;
};

// The gradient of one (tile, splat) pair in floats: the six moments 1, u, w, u^2, uw, w^2 of the
// flow over its pixels, then from kSlotValues on every channel, and depth; in whole cache lines.
constexpr int kMoments = 6;
constexpr int kSlotValues = 8;
constexpr int slot_stride(int channels) { return (kSlotValues + channels + 1 + 15) / 16 * 16; }

// Planes of a tile, one value per pixel each. They lie side by side within a cell.
enum { kLight, kAlpha, kValues };  // values: every channel, and depth
constexpr int kBehind = kAlpha;    // going backward: the worth of what lies behind
constexpr int plane_count(int channels) { return kValues + channels + 1; }

// Floats of scratch that a thread needs to work on a tile.
constexpr int64_t tile_scratch(int shift, int channels) {
  return (int64_t)plane_count(channels) << 2 * shift;
}

// The functions that are compiled once for every instruction set.
struct Kernels {
  const char* name;
  // Writes splats[begin .. end).
  void (*project)(const Gaussians&, const Camera&, int64_t begin, int64_t end, Splat* splats);
  // Adds up the gradient slots of the Gaussians [begin, end), of each from first_slots[i] up to
  // first_slots[i + 1], and carries them back to the scene (overwritten, or added to what is there)
  // and to the camera (added), unless that is null.
  void (*project_backward)(const Gaussians&, const Camera&, int64_t begin, int64_t end,
                           const uint32_t* first_slots, const float* slots, bool add,
                           const GaussianGradients&, CameraGradient*);
  // Fills entries and reach of a tile from its splats, the low halves of ``sorted`` [list.count].
  // Each has a slot for its gradient in every tile of its box, from first_slots[splat] on.
  void (*enter)(const TileList&, const Splat*, const uint32_t* first_slots,
                const uint64_t* sorted);
  // Blends one tile; returns how many of its entries were read before all its pixels were full.
  int64_t (*composite)(const TileList&, const float* background, float* scratch, const Picture&);
  // Writes the slots of one tile's splats, and the tile's part of the background's gradient
  // [channels], unless that is null; ``used`` is what composite returned.
  void (*composite_backward)(const TileList&, int64_t used, const Picture&, const PictureGradient&,
                             float* scratch, float* slots, float* to_background);
};

}  // namespace recon
