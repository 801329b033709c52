"""Memory of the sigmoid loss of a large batch, with its gradients, by the size of its parts.

Each line is a process of its own: the peak of its memory above what it had before the loss, and the
CPU time. Once by default, where glibc keeps freed parts of less than 32 MB (the more of them, the
more it keeps), and once with every part of more than 1 MB given back, which shows what the loss
needs. Also prints the size of the matrix of logits, of which an unchunked loss needs several.

Usage: python benchmarks/losses.py [--batch 32768] [--width 128] [--chunks 64 256 1024]
"""

import argparse
import os
import resource
import subprocess
import sys
import time

import torch

from sono.training.objectives.losses import identity_targets, sigmoid_loss


def peak_mb() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(batch: int, width: int, chunk: int) -> str:
    """One loss with gradients in parts of `chunk` captions (0: the default)."""
    features = [torch.randn(batch, width, requires_grad=True) for _ in range(2)]
    image, text = (torch.nn.functional.normalize(each, dim=-1) for each in features)
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    small = sigmoid_loss(image[:64], text[:64], scale, bias, identity_targets(64), 16)
    small.backward(retain_graph=True)  # what autograd loads once
    before, started = peak_mb(), time.process_time()
    loss = sigmoid_loss(image, text, scale, bias, identity_targets(batch), chunk)
    loss.backward()
    seconds = time.process_time() - started
    return (
        f"{chunk or 'default':>8}  {peak_mb() - before:8.0f} MB  {seconds:6.1f} s  loss "
        f"{float(loss.detach()):.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=32768)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--chunks", type=int, nargs="*", default=[0, 64, 1024])
    parser.add_argument(
        "--one", action="store_true", help="measure in this process, the first chunk alone"
    )
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(arguments.batch, arguments.width, arguments.chunks[0]))
        return
    print(
        f"batch {arguments.batch}: one matrix of logits is {arguments.batch**2 * 4 / 2**20:.0f} MB"
    )
    for chunk in arguments.chunks:
        sizes = [
            "--batch",
            str(arguments.batch),
            "--width",
            str(arguments.width),
            "--chunks",
            str(chunk),
        ]
        for title, settings in (
            ("as it comes", {}),
            ("given back ", {"MALLOC_MMAP_THRESHOLD_": "1048576"}),
        ):
            print(title, end=" ", flush=True)
            subprocess.run(
                [sys.executable, __file__, "--one", *sizes], check=True, env=os.environ | settings
            )


if __name__ == "__main__":
    main()
