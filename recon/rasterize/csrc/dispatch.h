#pragma once

#include <array>

#include "types.h"

namespace recon {

// Kernels that this machine can run, best first; then nulls.
using KernelChoices = std::array<const Kernels*, 4>;
const KernelChoices& usable_kernels();

}  // namespace recon
