"""`python -m bench`: run every measurement, print one table, write `bench/results.json`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import calls, control_plane, decide, extauthz_check, guarded_calls, knowledge, recovery
from bench.results import Result, save, table

PARTS: dict[str, Callable[[], Iterator[Result]]] = {
    "decide": decide.run,
    "check": extauthz_check.run,
    "control-plane": control_plane.run,
    "calls": calls.run,
    "recovery": recovery.run,
    "mcpguard": guarded_calls.run,
    "knowledge": knowledge.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results.json"), metavar="FILE"
    )
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    results: list[Result] = []
    for name in options.parts or PARTS:
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        results += PARTS[name]()
    print(table(results))
    if not options.parts:
        save(results, options.output)
        print(f"written to {options.output}", file=sys.stderr)
    missed = [result.name for result in results if not result.kept]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
