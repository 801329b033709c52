"""Memory of the C library on Linux: what a step frees, the next one takes again."""

import ctypes
import os
import platform

# Of <malloc.h>. From 32 MiB on glibc asks the system for each tensor anew, and the system clears
# its pages each time.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
OWN = ("MALLOC_", "GLIBC_TUNABLES")  # variables by which somebody has chosen otherwise
# bytes: of a tensor that is taken again, of what is kept, and asked ahead
LARGEST, KEPT, PAD = 2**28, 2**30, 2**26


def reuse_freed_memory() -> bool:
    """Let freed tensors of up to 256 MiB be taken again; whether the C library could be set so (a
    glibc from 2.35 on).

    A step of the default model on a CPU takes a fifth less time (docs/results.md). It holds for the
    whole process.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(OWN) for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = bool(mallopt(_MMAP_THRESHOLD, LARGEST) == 1)
    if done:  # an older glibc takes 32 MiB at most, and stays as it is
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_TOP_PAD, PAD)
    return done
