// Arrays that are recycled between calls: the first touch of fresh pages costs as much as the
// arithmetic on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace recon {

// A block of uninitialised memory, aligned to cache lines, from a process-wide store. Throws
// std::bad_alloc. Thread-safe.
void* take_block(size_t bytes, size_t* capacity);
void give_block(void* block, size_t capacity) noexcept;

// Bytes that wait in the store to be used again.
int64_t stored_bytes();

// An array of trivial values, uninitialised.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(int64_t size)
      : data_(static_cast<T*>(take_block(static_cast<size_t>(size) * sizeof(T), &capacity_))) {}
  ~Array() {
    if (data_) give_block(data_, capacity_);
  }
  Array(Array&& other) noexcept { swap(other); }
  Array& operator=(Array&& other) noexcept {
    swap(other);
    return *this;
  }

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  void swap(Array& other) {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
  }

  size_t capacity_ = 0;
  T* data_ = nullptr;
};

}  // namespace recon
