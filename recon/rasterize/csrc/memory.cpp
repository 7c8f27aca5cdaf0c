#include "memory.h"

#include <cstdlib>
#include <list>
#include <mutex>
#include <new>

namespace recon {
namespace {

// What the store keeps at most: the oldest blocks go first.
constexpr size_t kStoreBytes = size_t{256} << 20;
constexpr size_t kAlignment = 64;

struct Block {
  void* data;
  size_t capacity;
};

struct Store {
  std::mutex mutex;
  std::list<Block> blocks;  // newest first
  size_t bytes = 0;
};

// Never destroyed: arrays may be given back by threads that outlive static destructors.
Store& store() {
  static Store* const it = new Store;
  return *it;
}

}  // namespace

void* take_block(size_t bytes, size_t* capacity) {
  // Sizes that vary a little from call to call should find each other's blocks.
  const size_t granule = bytes < (size_t{1} << 16) ? size_t{1} << 12 : size_t{1} << 16;
  const size_t wanted = (bytes / granule + 1) * granule;
  {
    Store& s = store();
    const std::lock_guard<std::mutex> lock(s.mutex);
    auto best = s.blocks.end();
    for (auto it = s.blocks.begin(); it != s.blocks.end(); ++it)
      if (it->capacity >= wanted && it->capacity <= 2 * wanted &&
          (best == s.blocks.end() || it->capacity < best->capacity))
        best = it;
    if (best != s.blocks.end()) {
      void* data = best->data;
      *capacity = best->capacity;
      s.bytes -= best->capacity;
      s.blocks.erase(best);
      return data;
    }
  }
  void* data = std::aligned_alloc(kAlignment, wanted);
  if (!data) throw std::bad_alloc();
  *capacity = wanted;
  return data;
}

void give_block(void* block, size_t capacity) noexcept {
  Store& s = store();
  const std::lock_guard<std::mutex> lock(s.mutex);
  try {
    s.blocks.push_front({block, capacity});
  } catch (const std::bad_alloc&) {
    std::free(block);
    return;
  }
  s.bytes += capacity;
  while (s.bytes > kStoreBytes) {
    s.bytes -= s.blocks.back().capacity;
    std::free(s.blocks.back().data);
    s.blocks.pop_back();
  }
}

int64_t stored_bytes() {
  Store& s = store();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return static_cast<int64_t>(s.bytes);
}

}  // namespace recon
