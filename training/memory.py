"""Memory of the C library on Linux: what a step frees, the next one takes again."""

import ctypes
import platform

# Of <malloc.h>. From 32 MiB on glibc asks the system for each tensor anew, and the system clears its pages each time.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
LARGEST, KEPT, PAD = 2**28, 2**30, 2**26  # bytes: of a tensor that is taken again, of what is kept, and asked ahead


def reuse_freed_memory() -> bool:
    """Let freed tensors of up to 256 MiB be taken again; whether the C library could be set so (glibc alone can).

    A step of the default model on a CPU took a fifth less time: `benchmarks/training.py` has the figure.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    asked = ((_MMAP_THRESHOLD, LARGEST), (_TRIM_THRESHOLD, KEPT), (_TOP_PAD, PAD))
    return all(mallopt(option, value) == 1 for option, value in asked)
