"""Reuse of freed memory by the C library on Linux."""

import ctypes
import os
import platform

# Of <malloc.h>. From 32 MiB on glibc requests each tensor from the system, which clears its pages
# each time.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
OWN = ("MALLOC_", "GLIBC_TUNABLES")  # variables by which somebody has chosen otherwise
# bytes: of a tensor that is taken again, of what is kept, and asked ahead
LARGEST, KEPT, PAD = 2**28, 2**30, 2**26


def reuse_freed_memory() -> bool:
    """Let the C library reuse freed tensors of up to 256 MiB; whether it could be set.

    It needs glibc 2.35 or later. A step of the default model on a CPU takes a fifth less time
    (docs/results.md). The setting holds for the complete process.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(OWN) for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = bool(mallopt(_MMAP_THRESHOLD, LARGEST) == 1)
    if done:  # an older glibc takes 32 MiB at most, and stays as it is
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_TOP_PAD, PAD)
    return done
