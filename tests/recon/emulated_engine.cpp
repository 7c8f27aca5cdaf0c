// The compiled engine behind a pipe, for tests/recon/emulated_engine.py: it serves calls until its input
// ends. A call is a number and blobs (int64 length, then bytes; length -1 is a null pointer), a reply is
// a status, a frame's address, and the blobs that were written.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "engine.h"

namespace {

void read_all(void* to, size_t bytes) {
  for (char* at = static_cast<char*>(to); bytes;) {
    const ssize_t got = read(0, at, bytes);
    if (got <= 0) std::exit(got == 0 ? 0 : 1);
    at += got;
    bytes -= static_cast<size_t>(got);
  }
}

void write_all(const void* from, size_t bytes) {
  for (const char* at = static_cast<const char*>(from); bytes;) {
    const ssize_t done = write(1, at, bytes);
    if (done <= 0) std::exit(1);
    at += done;
    bytes -= static_cast<size_t>(done);
  }
}

template <class T>
T receive() {
  T value;
  read_all(&value, sizeof value);
  return value;
}

class Blob {
 public:
  Blob() : null_(false) {
    const int64_t length = receive<int64_t>();
    null_ = length < 0;
    bytes_.resize(null_ ? 0 : static_cast<size_t>(length) + 1);  // never without an address
    if (!null_) read_all(bytes_.data(), bytes_.size() - 1);
  }
  template <class T = float>
  T* as() {
    return null_ ? nullptr : reinterpret_cast<T*>(bytes_.data());
  }
  void send() const {
    if (!null_) write_all(bytes_.data(), bytes_.size() - 1);
  }

 private:
  bool null_;
  std::vector<char> bytes_;
};

void reply(int32_t status, ReconFrame* frame, const std::vector<const Blob*>& written) {
  const int64_t address = reinterpret_cast<int64_t>(frame);
  write_all(&status, sizeof status);
  write_all(&address, sizeof address);
  for (const Blob* blob : written) blob->send();
}

// The structs hold pointers where they came from; they are put in here.
struct Inputs {
  Blob scene_struct, cameras_struct, means, quats, scales, opacities, colors, viewmats, Ks,
      backgrounds;

  ReconScene* scene() {
    auto* s = scene_struct.as<ReconScene>();
    s->means = means.as();
    s->quats = quats.as();
    s->scales = scales.as();
    s->opacities = opacities.as();
    s->colors = colors.as();
    return s;
  }
  ReconCameras* cameras() {
    auto* c = cameras_struct.as<ReconCameras>();
    c->viewmats = viewmats.as();
    c->Ks = Ks.as();
    c->backgrounds = backgrounds.as();
    return c;
  }
};

struct Maps {
  Blob image, depth, alpha;
  ReconPictures pictures() { return {image.as(), depth.as(), alpha.as()}; }
};

void render() {
  const auto threads = receive<int32_t>(), wants_frame = receive<int32_t>();
  Inputs in;
  Maps maps;
  Blob radii, means2d, depths;
  const ReconPictures pictures = maps.pictures();
  const ReconMeta meta = {radii.as<int32_t>(), means2d.as(), depths.as()};
  ReconFrame* frame = nullptr;
  const int status = recon_render(in.scene(), in.cameras(), &pictures, meta.radii ? &meta : nullptr,
                                  threads, 0, wants_frame ? &frame : nullptr);
  reply(status, frame, {&maps.image, &maps.depth, &maps.alpha, &radii, &means2d, &depths});
}

void render_backward() {
  const auto threads = receive<int32_t>();
  const auto* frame = reinterpret_cast<const ReconFrame*>(receive<int64_t>());
  Inputs in;
  Maps maps, flows;
  Blob means, quats, scales, opacities, colors, viewmats, Ks, backgrounds;
  const ReconPictures pictures = maps.pictures(), gradients = flows.pictures();
  const ReconGradients out = {means.as(),  quats.as(),    scales.as(), opacities.as(),
                              colors.as(), viewmats.as(), Ks.as(),     backgrounds.as()};
  const int status =
      recon_render_backward(frame, in.scene(), in.cameras(), &pictures, &gradients, &out, threads);
  reply(status, nullptr,
        {&means, &quats, &scales, &opacities, &colors, &viewmats, &Ks, &backgrounds});
}

void l1_ssim() {
  const auto threads = receive<int32_t>();
  Blob comparison, prediction, target, gradient, mask, l1_scales, ssim_scales, losses;
  auto* c = comparison.as<ReconComparison>();
  c->prediction.data = prediction.as();
  c->target.data = target.as();
  c->gradient.data = gradient.as();
  c->mask = mask.as<uint8_t>();
  c->l1_scales = l1_scales.as<double>();
  c->ssim_scales = ssim_scales.as<double>();
  reply(recon_l1_ssim(c, losses.as<double>(), threads, 0), nullptr, {&gradient, &losses});
}

}  // namespace

int main() {
  for (;;) {
    switch (receive<int32_t>()) {
      case 0: render(); break;
      case 1: render_backward(); break;
      case 2: l1_ssim(); break;
      case 3: recon_release(reinterpret_cast<ReconFrame*>(receive<int64_t>())); break;
      default: return 1;
    }
  }
}
