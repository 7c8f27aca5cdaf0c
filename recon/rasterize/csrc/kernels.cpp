// All kernels, compiled once for each instruction set (RECON_ISA names it).
#include "composite.h"
#include "composite_backward.h"
#include "enter.h"
#include "l1_ssim.h"
#include "project.h"
#include "project_backward.h"

#define RECON_TEXT_(x) #x
#define RECON_TEXT(x) RECON_TEXT_(x)

namespace recon {
namespace RECON_ISA {

extern const Kernels kernels;
const Kernels kernels = {RECON_TEXT(RECON_ISA), project, project_backward, enter, composite,
                         composite_backward, l1_ssim};

}  // namespace RECON_ISA
}  // namespace recon
