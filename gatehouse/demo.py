"""`gatehouse demo`: the stack, the tour, and then the stack for as long as somebody wants it."""

from __future__ import annotations

from gatehouse.console import say
from gatehouse.errors import REFUSED
from gatehouse.state import State
from gatehouse.tour import print_table, tour
from gatehouse.tour_bench import Bench, Result
from gatehouse.up import Options, running, say_where, stop_on_sigterm


def demo(state: State, *, once: bool) -> int:
    """Run the tour. 0 only if every row was as expected."""
    stop_on_sigterm()
    code = REFUSED
    try:
        with running(Options(state)) as live:
            say("  the tour:")
            results = tour(Bench(state, live.addresses), _show)
            code = 0 if all(result.as_expected for result in results) else REFUSED
            print_table(results)
            if not once:
                say_where(live)
                live.supervisor.watch(live.write_addresses)
    except KeyboardInterrupt:
        say("stopped")
    return code


def _show(result: Result) -> None:
    mark = "ok  " if result.as_expected else "FAIL"
    say(f"    {mark} {result.row.who:<26} {result.row.tool:<20} {result.got}")
