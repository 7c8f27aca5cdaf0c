// Checks parallel_for: every job once, a worker in one place at a time, after fork() too.
// Exits with 1 and a line on stderr otherwise.
#include "parallel.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::_Exit(1);
}

void check(int64_t jobs, int threads) {
  std::vector<std::atomic<int>> calls(jobs), active(threads);
  recon::parallel_for(jobs, threads, [&](int64_t job, int worker) {
    require(0 <= job && job < jobs, "no such job");
    require(0 <= worker && worker < threads, "no such worker");
    require(active[worker].fetch_add(1) == 0, "a worker in two places");
    ++calls[job];
    --active[worker];
  });
  for (const auto& count : calls) require(count == 1, "a job not called once");
}

void check_often(int times) {
  for (int i = 0; i < times; ++i) check(50 + i % 100, 4);
}

}  // namespace

int main() {
  for (int threads : {1, 2, 3, 64, 65, 300})
    for (int64_t jobs : {0, 1, 2, 3, 64, 1000})
      for (int i = 0; i < 5; ++i) check(jobs, threads);

  std::vector<std::thread> callers;
  for (int i = 0; i < 6; ++i) callers.emplace_back(check_often, 100);
  for (std::thread& caller : callers) caller.join();

  const pid_t child = fork();
  if (child == 0) {
    check_often(50);
    std::_Exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  require(status == 0, "the forked child failed");
}
