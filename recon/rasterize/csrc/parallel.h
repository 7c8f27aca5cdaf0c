// A loop over jobs, shared by the threads of a small pool.
//
// A pool of our own instead of OpenMP: a parallel region of GNU OpenMP ends at a barrier that spins
// until every thread of the team has run. On two cores with other work on them that took 30 times
// as long as the loop itself. Here the caller takes jobs too and waits only for helpers that have
// begun, so a helper that finds no free core costs nothing. It also leaves no second OpenMP runtime
// beside torch's.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace recon {

// Something that helpers may join while it lasts.
class Work {
 public:
  // Called once by the caller and once by every helper.
  virtual void join(bool is_caller) noexcept = 0;

 protected:
  ~Work() = default;
};

// Offers ``work`` to ``helpers`` pool threads, joins it, and returns when all who joined are done.
// Callable from several threads at once, and after fork().
void share(Work& work, int helpers);

// Jobs of a loop that are left to one worker. It takes them from the front, and who has none left
// of their own takes them from the back.
class alignas(64) Jobs {  // a cache line each
 public:
  void set(uint32_t begin, uint32_t end) { range_.store(packed(begin, end), kOrder); }

  bool take_first(int64_t* job) {
    return take(job, [](uint32_t& begin, uint32_t&) { return begin++; });
  }
  bool take_last(int64_t* job) {
    return take(job, [](uint32_t&, uint32_t& end) { return --end; });
  }

 private:
  // Orders nothing else: what the jobs write is published when a worker is done.
  static constexpr std::memory_order kOrder = std::memory_order_relaxed;

  static uint64_t packed(uint32_t begin, uint32_t end) { return uint64_t{end} << 32 | begin; }

  template <class Take>
  bool take(int64_t* job, const Take& take_one) {
    uint64_t range = range_.load(kOrder), rest;
    do {
      uint32_t begin = static_cast<uint32_t>(range), end = static_cast<uint32_t>(range >> 32);
      if (begin == end) return false;
      *job = take_one(begin, end);
      rest = packed(begin, end);
    } while (!range_.compare_exchange_weak(range, rest, kOrder));
    return true;
  }

  std::atomic<uint64_t> range_{0};
};

// Calls body(job, worker) for every job in [0, jobs), where no two calls at the same time have the
// same worker in [0, threads). There must be fewer than 2^32 jobs. ``body`` must not throw.
//
// Every worker begins with a run of neighbouring jobs, of which the caller's is always the first: in
// loops over the same jobs, one after the other, a core finds most of its data in its own cache.
template <class Body>
void parallel_for(int64_t jobs, int threads, const Body& body) {
  constexpr int kMaxWorkers = 256;
  class Loop final : public Work {
   public:
    Loop(int64_t jobs, int workers, const Body& body) : body_(body), workers_(workers) {
      const auto begin = [&](int w) { return static_cast<uint32_t>(jobs * w / workers); };
      for (int w = 0; w < workers; ++w) left_[w].set(begin(w), begin(w + 1));
    }
    void join(bool is_caller) noexcept override {
      const int worker = is_caller ? 0 : helpers_.fetch_add(1, std::memory_order_relaxed) + 1;
      int64_t job;
      while (left_[worker].take_first(&job)) body_(job, worker);
      for (int other = worker + 1; other < worker + workers_; ++other)
        while (left_[other % workers_].take_last(&job)) body_(job, worker);
    }

   private:
    const Body& body_;
    const int workers_;
    std::atomic<int> helpers_{0};
    Jobs left_[kMaxWorkers];
  };
  const int workers = static_cast<int>(std::min<int64_t>({jobs, threads, kMaxWorkers}));
  if (workers <= 1) {
    for (int64_t job = 0; job < jobs; ++job) body(job, 0);
    return;
  }
  Loop loop(jobs, workers, body);
  share(loop, workers - 1);
}

}  // namespace recon
