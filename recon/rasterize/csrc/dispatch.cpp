#include "dispatch.h"

namespace recon {

namespace portable {
extern const Kernels kernels;
}
#if defined(RECON_X86)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

static KernelChoices find_kernels() {
  KernelChoices choices = {};
  int n = 0;
#if defined(RECON_X86)
  // These ask the processor and whether the operating system saves its registers.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi"))
    choices[n++] = &avx512::kernels;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi"))
    choices[n++] = &avx2::kernels;
#endif
  choices[n] = &portable::kernels;
  return choices;
}

const KernelChoices& usable_kernels() {
  static const KernelChoices choices = find_kernels();
  return choices;
}

}  // namespace recon
