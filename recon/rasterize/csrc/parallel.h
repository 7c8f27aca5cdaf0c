// A loop over jobs, shared by the threads of a small pool.
//
// A pool of our own instead of OpenMP: a parallel region of GNU OpenMP ends at a barrier that spins
// until every thread of the team has run. On two cores with other work on them that took 30 times
// as long as the loop itself. Here the caller takes jobs too and waits only for helpers that have
// begun, so a helper that finds no free core costs nothing. It also leaves no second OpenMP runtime
// beside torch's.
#pragma once

#include <atomic>
#include <cstdint>

namespace recon {

// Something that helpers may join while it lasts.
class Work {
 public:
  virtual void join() noexcept = 0;

 protected:
  ~Work() = default;
};

// Offers ``work`` to ``helpers`` pool threads, joins it, and returns when all who joined are done.
// Callable from several threads at once, and after fork().
void share(Work& work, int helpers);

// Calls body(job, worker) for every job in [0, jobs), where no two calls at the same time have the
// same worker in [0, threads). ``body`` must not throw.
template <class Body>
void parallel_for(int64_t jobs, int threads, const Body& body) {
  class Loop final : public Work {
   public:
    Loop(int64_t jobs, const Body& body) : jobs_(jobs), body_(body) {}
    void join() noexcept override {
      const int worker = workers_.fetch_add(1, std::memory_order_relaxed);
      for (int64_t job; (job = next_.fetch_add(1, std::memory_order_relaxed)) < jobs_;)
        body_(job, worker);
    }

   private:
    const int64_t jobs_;
    const Body& body_;
    std::atomic<int64_t> next_{0};
    std::atomic<int> workers_{0};
  };
  Loop loop(jobs, body);
  const int64_t helpers = (threads < jobs ? threads : jobs) - 1;
  if (helpers < 1)
    loop.join();
  else
    share(loop, static_cast<int>(helpers));
}

}  // namespace recon
