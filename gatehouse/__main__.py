"""`gatehouse`, and `python -m gatehouse`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run one command; every way it can fail ends here, as one line and an exit code."""
    from gatehouse.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
