// The engine's plain C interface: what recon/rasterize/cpu_library.py calls.
//
// Arrays are float32, row-major, contiguous. Calls are independent of each other and may run at
// the same time from several threads.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RECON_API __attribute__((visibility("default")))

typedef struct {
  int64_t count;
  int32_t channels;  /* of the pictures */
  int32_t sh_degree; /* 0 to 3: colors are coefficients [count, (sh_degree + 1)^2, 3]; or -1 */
  const float *means, *quats, *scales, *opacities, *colors;
} ReconScene;

typedef struct {
  int32_t views, width, height;
  const float *viewmats;    /* [views, 4, 4] */
  const float *Ks;          /* [views, 3, 3] */
  const float *backgrounds; /* [views, channels] or null: black */
  double near, far;
} ReconCameras;

typedef struct {
  float *image; /* [views, height, width, channels] */
  float *depth; /* [views, height, width] */
  float *alpha; /* [views, height, width] */
} ReconPictures;

/* Gradients of the inputs, all overwritten. The cameras' may be null: then nobody asks for them,
   which saves time. The scene's may not. */
typedef struct {
  float *means, *quats, *scales, *opacities, *colors;
  float *viewmats, *Ks;  /* both or neither */
  float *backgrounds;    /* [views, channels] */
} ReconGradients;

/* What a backward pass needs to know of a forward pass. */
typedef struct ReconFrame ReconFrame;

enum { RECON_OK = 0, RECON_OUT_OF_MEMORY = 1, RECON_TOO_MANY_PAIRS = 2, RECON_ERROR = 3 };

/* Names of the instruction sets that this machine and this build have, best first, then null. */
RECON_API const char *const *recon_instruction_sets(void);

/* Bytes of memory kept to be used again by later calls. */
RECON_API int64_t recon_stored_bytes(void);

/* Renders every view. ``instruction_set`` is an index into recon_instruction_sets(). With
   ``frame``, keeps there what recon_render_backward needs; give it back with recon_release. */
RECON_API int recon_render(const ReconScene *, const ReconCameras *, const ReconPictures *,
                           int threads, int instruction_set, ReconFrame **frame);

/* Carries gradients of the pictures (null pointers: zero) back to the inputs. The scene, cameras
   and pictures must be those of the forward pass. May be called several times. */
RECON_API int recon_render_backward(const ReconFrame *, const ReconScene *, const ReconCameras *,
                                    const ReconPictures *, const ReconPictures *gradients,
                                    const ReconGradients *, int threads);

RECON_API void recon_release(ReconFrame *);

#ifdef __cplusplus
}
#endif
