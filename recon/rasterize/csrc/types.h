// Plain data that passes between the engine and the kernels of every instruction set.
//
// No functions with code here: this header is compiled with different instruction sets, and the
// linker keeps only one copy of an out-of-line inline function.
#pragma once

#include <cstdint>

namespace recon {

// A contribution below one step of an 8-bit picture is not drawn.
constexpr double kAlphaMin = 1.0 / 255.0;
constexpr float kAlphaMax = 0.999f;
// A Gaussian that would leave no more light than this ends the pixel and is not drawn itself.
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
  const float* means;      // [count, 3]
  const float* quats;      // [count, 4] w, x, y, z, any non-zero length
  const float* scales;     // [count, 3]
  const float* opacities;  // [count]
  const float* colors;     // [count, channels]
};

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
  double fx, fy, cx, cy;  // pixels
  double near, far;       // camera z
  int32_t width, height;
};

struct CameraGradient {
  double rotation[9];
  double translation[3];
  double fx, fy, cx, cy;
};

// A projected Gaussian. With d = (pixel centre - centre of the splat), it covers a pixel by
//   alpha = min(0.999, 2^(log2_opacity - u^2 - w^2)),   u = ux dx + uy dy,   w = wy dy,
// which is opacity exp(-d^T Sigma^-1 d / 2) with the inverse covariance in Cholesky form. The
// quadratic form itself would lose a needle's width to cancellation in float32; u and w do not.
struct Splat {
  float x, y;  // centre, relative to the corner of pixel (left, top): exact on images of any size
  float ux, uy, wy;
  float log2_opacity;
  float depth;                        // camera z
  uint32_t first_slot;                // its gradient slots, one for each tile that its box touches
  uint16_t left, right, top, bottom;  // pixels that it can reach, inclusive; left > right: none
};

// Square tiles of 2^shift pixels.
struct TileGrid {
  int32_t shift, across, down;
};

// What one tile of one view blends: the splats ids[0 .. count), nearest first.
struct TileList {
  const Splat* splats;
  const float* colors;  // [.., channels], by id
  const uint32_t* ids;
  int64_t count;
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
// flow over its pixels, then depth, then every channel, padded to whole quadruples.
constexpr int kMoments = 6;
constexpr int kSlotDepth = kMoments;
constexpr int kSlotColors = kMoments + 1;
constexpr int slot_stride(int channels) { return (kSlotColors + channels + 3) / 4 * 4; }

constexpr int kMinTileShift = 4, kMaxTileShift = 6;

// Blocks are written without masks: tiles have room for one block beyond their right edge and for
// one row below. What lands there is never read.
constexpr int kBlockWidth = 8;
constexpr int tile_stride(int shift) { return (1 << shift) + kBlockWidth; }
constexpr int plane_size(int shift) { return tile_stride(shift) * ((1 << shift) + 1); }
// Floats of scratch that a tile needs: planes for light, alpha or the worth of what lies
// behind, depth, and channels; then a vector (of up to 16 lanes) of gradient sums per channel.
constexpr int64_t tile_scratch(int shift, int channels) {
  return (int64_t)plane_size(shift) * (channels + 3) + (channels + 3) / 4 * 4 * 16;
}

// The functions that are compiled once for every instruction set.
struct Kernels {
  const char* name;
  // Writes splats[begin .. end), all but first_slot.
  void (*project)(const Gaussians&, const Camera&, int64_t begin, int64_t end, Splat* splats);
  // Adds up the gradient slots of the Gaussians [begin, end) and carries them back to the scene
  // (added to what is there) and to the camera (added).
  void (*project_backward)(const Gaussians&, const Camera&, int64_t begin, int64_t end,
                           const Splat* splats, int shift, const float* slots,
                           const GaussianGradients&, CameraGradient*);
  // Draws one tile; returns how many of its splats were looked at before all its pixels were full.
  int64_t (*composite)(const TileList&, const float* background, float* scratch, const Picture&);
  // Writes the slots of one tile's splats, and the tile's part of the background's gradient
  // [channels]; ``used`` is what composite returned.
  void (*composite_backward)(const TileList&, int64_t used, const Picture&, const PictureGradient&,
                             float* scratch, float* slots, float* to_background);
};

}  // namespace recon
