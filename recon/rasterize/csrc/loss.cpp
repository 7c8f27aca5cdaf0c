// The compiled loss: pictures cut into bands of rows, a job for each band of each channel.
#include <algorithm>

#include "dispatch.h"
#include "engine.h"
#include "guarded.h"
#include "memory.h"
#include "parallel.h"

namespace recon {
namespace {

// Beside its own rows a band reads 20 others: no shorter than this.
constexpr int64_t kRowsInBand = 64;

template <class Float>
Plane<Float> plane_of(const ReconImages& images, int64_t image, int64_t channel) {
  const int64_t* const strides = images.strides;
  Float* const data =
      images.data ? images.data + image * strides[0] + channel * strides[1] : nullptr;
  return {data, strides[2], strides[3]};
}

struct Sums {
  double l1, ssim;
};

}  // namespace
}  // namespace recon

int recon_l1_ssim(const ReconComparison* c, double* losses, int threads, int instruction_set) {
  using namespace recon;
  return guarded([&] {
    const Kernels& kernels = *usable_kernels()[static_cast<size_t>(instruction_set)];
    const int64_t images = c->images, channels = c->channels, height = c->height;
    const int64_t wanted = images ? (threads + images - 1) / images : 1;
    const int64_t bands = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(height / kRowsInBand, 1));
    const int64_t jobs = images * bands * channels, scratch_size = loss_scratch(c->width);
    Array<float> scratch(scratch_size * threads);
    Array<Sums> sums(jobs);
    // Channels innermost: they may lie side by side in memory.
    parallel_for(jobs, threads, [&](int64_t job, int worker) {
      const int64_t channel = job % channels, band = job / channels % bands;
      const int64_t image = job / channels / bands;
      const LossPlane plane = {
          plane_of<const float>(c->prediction, image, channel),
          plane_of<const float>(c->target, image, channel),
          plane_of<float>(c->gradient, image, channel),
          c->mask ? c->mask + image * height * c->width : nullptr,
          c->height,
          c->width,
          static_cast<float>(c->l1_scales[image]),
          static_cast<float>(c->ssim_scales[image])};
      kernels.l1_ssim(plane, height * band / bands, height * (band + 1) / bands,
                      scratch.data() + worker * scratch_size, &sums[job].l1, &sums[job].ssim);
    });
    for (int64_t image = 0; image < images; ++image) {
      losses[image] = 0;
      for (int64_t job = image * bands * channels; job < (image + 1) * bands * channels; ++job)
        losses[image] += c->l1_scales[image] * sums[job].l1 + c->ssim_scales[image] * sums[job].ssim;
    }
  });
}
