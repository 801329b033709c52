"""What a piece of code prints in a process of its own, and the memory that it takes there."""

import subprocess
import sys

from waiting import LIMIT

_BEGIN = "import resource\nstart = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
_END = "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)"


def run_measured(imports: str, code: str, *arguments: str) -> tuple[list[str], int, str]:
    """Run `imports`, then `code` with the arguments as `sys.argv[1:]`.

    Returns the lines on stdout, by how many KiB the code raised the peak memory, and stderr.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{imports}\n{_BEGIN}{code}{_END}", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    *lines, grown = done.stdout.splitlines()
    return lines, int(grown), done.stderr
