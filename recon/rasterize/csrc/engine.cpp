#include "engine.h"

#include <algorithm>
#include <array>
#include <new>
#include <stdexcept>
#include <vector>

#include "dispatch.h"
#include "memory.h"
#include "parallel.h"
#include "tiles.h"
#include "types.h"

namespace recon {
namespace {

// One view between its forward and its backward pass.
struct View {
  Array<uint32_t> first_slots;  // [count + 1]
  Array<Entry> entries;   // tile after tile, each with its spare ones
  Array<Reach> reach;     // tile after tile
  Array<int64_t> starts;  // [tiles + 1] where each tile's pairs begin, not counting spare entries
  Array<int64_t> used;    // [tiles] how many of them were blended before all pixels were full
  int64_t slots = 0;
};

// Gaussians that are projected by one job.
constexpr int64_t kProjectedTogether = 1024;

// Large tiles cut fewer splats in two; there should be enough to go round.
TileGrid choose_grid(int width, int height, int threads) {
  constexpr int64_t kTilesPerThread = 4;
  for (int shift = kMaxTileShift;; --shift) {
    const int size = 1 << shift;
    const TileGrid grid = {shift, (width + size - 1) / size, (height + size - 1) / size};
    if (shift == kMinTileShift || int64_t{grid.across} * grid.down >= kTilesPerThread * threads)
      return grid;
  }
}

// Not the transpose: of a matrix that is off by rounding, too, the centre is what it moves to zero.
std::array<double, 9> inverse_of(const double* m) {
  std::array<double, 9> out;
  double determinant = 0;
  for (int row = 0; row < 3; ++row) {
    for (int k = 0; k < 3; ++k) {
      const int a = (row + 1) % 3, b = (row + 2) % 3, c = (k + 1) % 3, d = (k + 2) % 3;
      out[3 * k + row] = m[3 * a + c] * m[3 * b + d] - m[3 * a + d] * m[3 * b + c];
    }
    determinant += m[row] * out[3 * row];
  }
  for (double& value : out) value /= determinant;
  return out;
}

Camera make_camera(const ReconCameras& cameras, int view) {
  const float* V = cameras.viewmats + 16 * view;
  const float* K = cameras.Ks + 9 * view;
  Camera camera;
  for (int row = 0; row < 3; ++row) {
    for (int k = 0; k < 3; ++k) camera.rotation[3 * row + k] = V[4 * row + k];
    camera.translation[row] = V[4 * row + 3];
  }
  const std::array<double, 9> inverse = inverse_of(camera.rotation);
  for (int row = 0; row < 3; ++row) {
    camera.centre[row] = 0;
    for (int k = 0; k < 3; ++k) camera.centre[row] -= inverse[3 * row + k] * camera.translation[k];
  }
  camera.fx = K[0];
  camera.fy = K[4];
  camera.cx = K[2];
  camera.cy = K[5];
  camera.near = cameras.near;
  camera.far = cameras.far;
  camera.width = cameras.width;
  camera.height = cameras.height;
  return camera;
}

Gaussians make_gaussians(const ReconScene& s) {
  return {s.count, s.channels, s.sh_degree, s.means, s.quats, s.scales, s.opacities, s.colors};
}

Picture picture_of(const ReconPictures& pictures, const ReconCameras& cameras, int channels,
                   int view) {
  const int64_t before = int64_t{view} * cameras.width * cameras.height;
  auto at = [](float* base, int64_t offset) { return base ? base + offset : nullptr; };
  return {at(pictures.image, before * channels), at(pictures.depth, before),
          at(pictures.alpha, before)};
}

TileList tile_list(const View& view, const Gaussians& scene, const ReconCameras& cameras,
                   const TileGrid& grid, int64_t tile) {
  TileList list;
  list.colors = scene.colors;
  list.entries = view.entries.data() + view.starts[tile] + kSpareEntries * tile;
  list.reach = view.reach.data() + view.starts[tile] / 64 + tile;  // each ends with a part of 64
  list.count = view.starts[tile + 1] - view.starts[tile];
  list.spare_slot = static_cast<uint32_t>(view.slots + tile);
  list.channels = scene.channels;
  list.tile_x = static_cast<int32_t>(tile % grid.across);
  list.tile_y = static_cast<int32_t>(tile / grid.across);
  list.shift = grid.shift;
  list.width = cameras.width;
  list.height = cameras.height;
  return list;
}

View render_view(const Kernels& kernels, const Gaussians& scene, const ReconCameras& cameras,
                 int index, const TileGrid& grid, const Picture& picture, int threads) {
  const Camera camera = make_camera(cameras, index);
  const int64_t tiles = int64_t{grid.across} * grid.down;
  View view;
  const Array<Splat> splats(scene.count);
  TileBins bins(scene.count, grid, threads);
  parallel_for(bins.ranges(), threads, [&](int64_t range, int) {
    const int64_t range_end = bins.range_begin(range + 1);
    for (int64_t begin = bins.range_begin(range); begin < range_end; begin += kProjectedTogether) {
      const int64_t end = std::min(begin + kProjectedTogether, range_end);
      kernels.project(scene, camera, begin, end, splats.data());
      bins.count(range, splats.data(), begin, end);
    }
  });
  bins.number();
  parallel_for(bins.ranges(), threads, [&](int64_t range, int) { bins.file(range); });

  view.entries = Array<Entry>(bins.slots + kSpareEntries * tiles);
  view.reach = Array<Reach>(bins.slots / 64 + tiles);
  view.used = Array<int64_t>(tiles);
  view.slots = bins.slots;

  const int64_t scratch_size = tile_scratch(grid.shift, scene.channels);
  Array<float> scratch(scratch_size * threads);
  const float* background =
      cameras.backgrounds ? cameras.backgrounds + int64_t{index} * scene.channels : nullptr;
  view.starts = std::move(bins.starts);
  view.first_slots = std::move(bins.first_slots);
  parallel_for(tiles, threads, [&](int64_t tile, int worker) {
    const TileList list = tile_list(view, scene, cameras, grid, tile);
    const uint64_t* const sorted = bins.sort(view.starts[tile], view.starts[tile + 1]);
    kernels.enter(list, splats.data(), view.first_slots.data(), sorted);
    view.used[tile] = kernels.composite(list, background, scratch.data() + worker * scratch_size,
                                        picture);
  });
  return view;
}

// The centre follows the others: it is -R^-1 t, so that d centre = -R^-1 (dR centre + dt).
void add_part_of_centre(const Camera& camera, CameraGradient* gradient) {
  const std::array<double, 9> inverse = inverse_of(camera.rotation);
  for (int row = 0; row < 3; ++row) {
    double pull = 0;
    for (int k = 0; k < 3; ++k) pull += inverse[3 * k + row] * gradient->centre[k];
    gradient->translation[row] -= pull;
    for (int k = 0; k < 3; ++k) gradient->rotation[3 * row + k] -= pull * camera.centre[k];
  }
}

void render_view_backward(const Kernels& kernels, const View& view, const Gaussians& scene,
                          const ReconCameras& cameras, int index, const TileGrid& grid,
                          const Picture& picture, const PictureGradient& gradient,
                          bool add, const GaussianGradients& to_scene, CameraGradient* to_camera,
                          float* to_background, int threads) {
  const int64_t tiles = int64_t{grid.across} * grid.down;
  const int64_t scratch_size = tile_scratch(grid.shift, scene.channels);
  Array<float> scratch(scratch_size * threads);
  Array<float> slots((view.slots + tiles) * slot_stride(scene.channels));
  Array<float> tile_backgrounds(to_background ? tiles * scene.channels : 0);
  parallel_for(tiles, threads, [&](int64_t tile, int worker) {
    kernels.composite_backward(tile_list(view, scene, cameras, grid, tile), view.used[tile],
                               picture, gradient, scratch.data() + worker * scratch_size,
                               slots.data(),
                               to_background ? tile_backgrounds.data() + tile * scene.channels
                                             : nullptr);
  });
  for (int c = 0; to_background && c < scene.channels; ++c) {
    double sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile)
      sum += tile_backgrounds[tile * scene.channels + c];
    to_background[c] = static_cast<float>(sum);
  }

  const Camera camera = make_camera(cameras, index);
  const int64_t jobs = (scene.count + kProjectedTogether - 1) / kProjectedTogether;
  // Apart for every job, then in order: the sum does not depend on the number of threads.
  std::vector<CameraGradient> parts(to_camera ? jobs : 0, CameraGradient{});
  parallel_for(jobs, threads, [&](int64_t job, int) {
    const int64_t begin = job * kProjectedTogether;
    const int64_t end = std::min(begin + kProjectedTogether, scene.count);
    kernels.project_backward(scene, camera, begin, end, view.first_slots.data(), slots.data(),
                             add, to_scene, to_camera ? &parts[job] : nullptr);
  });
  if (!to_camera) return;
  *to_camera = CameraGradient{};
  for (const CameraGradient& part : parts) {
    for (int k = 0; k < 9; ++k) to_camera->rotation[k] += part.rotation[k];
    for (int k = 0; k < 3; ++k) to_camera->translation[k] += part.translation[k];
    for (int k = 0; k < 3; ++k) to_camera->centre[k] += part.centre[k];
    to_camera->fx += part.fx;
    to_camera->fy += part.fy;
    to_camera->cx += part.cx;
    to_camera->cy += part.cy;
  }
  if (scene.sh_degree != kPlainColors) add_part_of_centre(camera, to_camera);
}

void write_camera_gradient(const CameraGradient& gradient, int view, const ReconGradients& out) {
  float* V = out.viewmats + 16 * view;
  float* K = out.Ks + 9 * view;
  std::fill(V, V + 16, 0.0f);
  std::fill(K, K + 9, 0.0f);
  for (int row = 0; row < 3; ++row) {
    for (int k = 0; k < 3; ++k) V[4 * row + k] = static_cast<float>(gradient.rotation[3 * row + k]);
    V[4 * row + 3] = static_cast<float>(gradient.translation[row]);
  }
  K[0] = static_cast<float>(gradient.fx);
  K[4] = static_cast<float>(gradient.fy);
  K[2] = static_cast<float>(gradient.cx);
  K[5] = static_cast<float>(gradient.cy);
}

int64_t color_values(const Gaussians& scene) {
  return scene.sh_degree == kPlainColors ? scene.channels
                                         : 3 * (scene.sh_degree + 1) * (scene.sh_degree + 1);
}

void zero(const Gaussians& scene, const GaussianGradients& out) {
  std::fill_n(out.means, 3 * scene.count, 0.0f);
  std::fill_n(out.quats, 4 * scene.count, 0.0f);
  std::fill_n(out.scales, 3 * scene.count, 0.0f);
  std::fill_n(out.opacities, scene.count, 0.0f);
  std::fill_n(out.colors, color_values(scene) * scene.count, 0.0f);
}

template <class Work>
int guarded(const Work& work) noexcept {
  try {
    work();
    return RECON_OK;
  } catch (const std::bad_alloc&) {
    return RECON_OUT_OF_MEMORY;
  } catch (const std::length_error&) {
    return RECON_TOO_MANY_PAIRS;
  } catch (...) {
    return RECON_ERROR;
  }
}

}  // namespace
}  // namespace recon

struct ReconFrame {
  const recon::Kernels* kernels;
  recon::TileGrid grid;
  std::vector<recon::View> views;
};

extern "C" {

const char* const* recon_instruction_sets(void) {
  static const auto names = [] {
    std::array<const char*, std::tuple_size<recon::KernelChoices>::value + 1> out = {};
    size_t n = 0;
    for (const recon::Kernels* kernels : recon::usable_kernels())
      if (kernels) out[n++] = kernels->name;
    return out;
  }();
  return names.data();
}

int64_t recon_stored_bytes(void) { return recon::stored_bytes(); }

int recon_render(const ReconScene* scene, const ReconCameras* cameras,
                 const ReconPictures* pictures, int threads, int instruction_set,
                 ReconFrame** frame) {
  using namespace recon;
  return guarded([&] {
    const Kernels& kernels = *usable_kernels()[static_cast<size_t>(instruction_set)];
    const Gaussians gaussians = make_gaussians(*scene);
    const TileGrid grid = choose_grid(cameras->width, cameras->height, threads);
    std::vector<View> views;
    views.reserve(static_cast<size_t>(frame ? cameras->views : 0));
    for (int view = 0; view < cameras->views; ++view) {
      View rendered =
          render_view(kernels, gaussians, *cameras, view, grid,
                      picture_of(*pictures, *cameras, scene->channels, view), threads);
      if (frame) views.push_back(std::move(rendered));
    }
    if (frame) *frame = new ReconFrame{&kernels, grid, std::move(views)};
  });
}

int recon_render_backward(const ReconFrame* frame, const ReconScene* scene,
                          const ReconCameras* cameras, const ReconPictures* pictures,
                          const ReconPictures* gradients, const ReconGradients* out, int threads) {
  using namespace recon;
  return guarded([&] {
    const Gaussians gaussians = make_gaussians(*scene);
    const GaussianGradients to_scene = {out->means, out->quats, out->scales, out->opacities,
                                        out->colors};
    // The first view overwrites, the others add.
    if (cameras->views == 0) zero(gaussians, to_scene);
    for (int view = 0; view < cameras->views; ++view) {
      const Picture g = picture_of(*gradients, *cameras, scene->channels, view);
      CameraGradient to_camera;
      render_view_backward(*frame->kernels, frame->views[static_cast<size_t>(view)], gaussians,
                           *cameras, view, frame->grid,
                           picture_of(*pictures, *cameras, scene->channels, view),
                           {g.image, g.depth, g.alpha}, view > 0, to_scene,
                           out->viewmats ? &to_camera : nullptr,
                           out->backgrounds ? out->backgrounds + int64_t{view} * scene->channels
                                            : nullptr,
                           threads);
      if (out->viewmats) write_camera_gradient(to_camera, view, *out);
    }
  });
}

void recon_release(ReconFrame* frame) { delete frame; }

}  // extern "C"
