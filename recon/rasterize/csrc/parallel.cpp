#include "parallel.h"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace recon {
namespace {

// One offer of work: how many may still join, and how many have joined and are not done.
struct Offer {
  Work* work;
  int open;
  std::atomic<int> busy{0};
  std::condition_variable done{};
};

// Waits for what is likely to come soon, without sleeping: to be woken takes as long as a short
// loop. Gives up after a while, so that a core that others could use is never held for long.
template <class Condition>
void wait_awake(const Condition& holds) {
  constexpr std::chrono::microseconds kPatience{60};
  const auto end = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < 16; ++i) {
      if (holds()) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }
  } while (std::chrono::steady_clock::now() < end);
}

class Pool {
 public:
  void share(Work& work, int helpers) {
    Offer offer{&work, helpers};
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (threads_ < helpers && start_thread()) {
      }
      offers_.push_back(&offer);
      count_offers();
    }
    for (int i = 0; i < helpers; ++i) wake_.notify_one();
    work.join(true);

    std::unique_lock<std::mutex> lock(mutex_);
    if (offer.open > 0) remove(&offer);
    if (offer.busy > 0) {
      lock.unlock();
      wait_awake([&] { return offer.busy == 0; });
      lock.lock();
    }
    offer.done.wait(lock, [&] { return offer.busy == 0; });
  }

 private:
  // Threads are detached and last as long as the process: joining them at exit would have to come
  // before the interpreter unloads what they run.
  bool start_thread() {
    try {
      std::thread(&Pool::serve, this).detach();
    } catch (const std::system_error&) {
      return false;  // no more threads to be had: the caller works alone
    }
    ++threads_;
    return true;
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (offers_.empty()) {
        lock.unlock();
        wait_awake([this] { return offers_to_join_ > 0; });
        lock.lock();
      }
      wake_.wait(lock, [this] { return !offers_.empty(); });
      Offer& offer = *offers_.front();
      ++offer.busy;
      if (--offer.open == 0) {
        offers_.pop_front();
        count_offers();
      }
      lock.unlock();
      offer.work->join(false);
      lock.lock();
      if (--offer.busy == 0) offer.done.notify_one();
    }
  }

  void remove(Offer* offer) {
    for (auto it = offers_.begin(); it != offers_.end(); ++it)
      if (*it == offer) {
        offers_.erase(it);
        count_offers();
        return;
      }
  }

  void count_offers() { offers_to_join_ = static_cast<int>(offers_.size()); }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Offer*> offers_;  // those that may still be joined
  std::atomic<int> offers_to_join_{0};
  int threads_ = 0;
};

// Never destroyed. A forked child has none of its parent's threads and starts with a new pool.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  static const bool once = [] {
    the_pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] { the_pool = new Pool; });
    return true;
  }();
  static_cast<void>(once);
  return *the_pool.load();
}

}  // namespace

void share(Work& work, int helpers) { pool().share(work, helpers); }

}  // namespace recon
