// A loop over jobs, shared by threads.
//
// OpenMP where it was found at build time: torch has its threads there, awake, and GNU's runtime is
// shared with torch's. Threads of our own elsewhere (macOS), and under sanitizers.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#else
#include <thread>
#include <vector>
#endif

namespace recon {

// Calls body(job, worker) for every job in [0, jobs); worker in [0, threads) is that of no other
// call at the same time. ``body`` must not throw.
template <class Body>
void parallel_for(int64_t jobs, int threads, const Body& body) {
  if (threads > jobs) threads = static_cast<int>(jobs);
  if (threads <= 1) {
    for (int64_t job = 0; job < jobs; ++job) body(job, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  auto work = [&](int worker) {
    for (int64_t job; (job = next.fetch_add(1, std::memory_order_relaxed)) < jobs;)
      body(job, worker);
  };
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
  work(omp_get_thread_num());
#else
  std::vector<std::thread> helpers;
  helpers.reserve(threads - 1);
  for (int worker = 1; worker < threads; ++worker) helpers.emplace_back(work, worker);
  work(0);
  for (std::thread& helper : helpers) helper.join();
#endif
}

}  // namespace recon
