"""A program that becomes another one, tied to its parent: on Linux the kernel kills it when its parent dies.

    python -I -S lifeline.py PARENT_PID PROGRAM [ARGUMENT …]

A supervisor that is killed with -9 cannot clean up; without this its children would go on alone, and those of the next
supervisor would meet them. Not imported by anything: it runs before the interpreter of the child is there.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, and become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(0)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
