"""``trends`` and ``python -m trends``: runs a command, and turns what went wrong into one line and an exit code."""

from __future__ import annotations

import sys

from streams.errors import TrendsError
from trends.cli import build
from trends.cli.output import tell_error


def main() -> None:
    """Run the command line. Errors that the platform raises on purpose end with their own exit code, see `ExitCode`;
    Ctrl-C ends with 130; anything else is a defect, and shows its traceback."""
    app = build()
    try:
        app()
    except TrendsError as error:
        tell_error(error)
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
