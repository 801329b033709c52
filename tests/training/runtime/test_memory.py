import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from sono.training.runtime.memory import reuse_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before, done = faults(), reuse_freed_memory()
for _ in range(3):
    faults()
print(before, done, faults())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting"
)
def test_freed_tensors_are_taken_again_without_asking_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, done, after = run.stdout.split()
    assert done == "True"
    assert int(before) > 100  # each tensor came anew, page by page
    assert int(after) < int(before) / 2
