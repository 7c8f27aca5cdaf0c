// Exceptions do not leave the library.
#pragma once

#include <new>
#include <stdexcept>

#include "engine.h"

namespace recon {

template <class Work>
int guarded(const Work& work) noexcept {
  try {
    work();
    return RECON_OK;
  } catch (const std::bad_alloc&) {
    return RECON_OUT_OF_MEMORY;
  } catch (const std::length_error&) {
    return RECON_TOO_MANY_PAIRS;
  } catch (...) {
    return RECON_ERROR;
  }
}

}  // namespace recon
