"""The tour: every promise of the README as a call through real Envoy, what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from gatehouse.tour_bench import Bench, Result
from gatehouse.tour_calls import CALLS
from gatehouse.tour_changes import changes
from gatehouse.tour_servers import CALLS as SERVERS
from gatehouse.tour_servers import confirmations

Show = Callable[[Result], None]


def tour(bench: Bench, show: Show) -> list[Result]:
    """Make all calls in order; `show` is told of each at once."""
    results = []
    for result in _all(bench):
        results.append(result)
        show(result)
    return results


def _all(bench: Bench) -> Iterator[Result]:
    for row in (*CALLS, *SERVERS):
        yield bench.run(row)
    yield from confirmations(bench)
    yield from changes(bench)


def table(results: Sequence[Result]) -> Table:
    """Everything at a glance."""
    drawn = Table(title="The tour", title_justify="left", header_style="bold", row_styles=["", "dim"])
    for name in ("", "who", "surface", "server", "tool", "expected", "got", "reason"):
        drawn.add_column(name, no_wrap=name not in ("reason",))
    drawn.add_column("ms", justify="right")
    for result in results:
        row, outcome = result.row, result.outcome
        mark = "[green]✓[/]" if result.as_expected else "[bold red]✗[/]"
        reason = result.note or (outcome.message if not outcome.ok else "")
        cells = (mark, row.who, row.surface, row.server, row.tool, row.expected, result.got, reason)
        drawn.add_row(*cells, f"{outcome.milliseconds:.0f}")
    return drawn


def print_table(results: Sequence[Result]) -> None:
    """Print it to stdout, at least as wide as it needs to be read where stdout is a file."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=180)
    console.print(table(results))
    wrong = [result for result in results if not result.as_expected]
    verdict = (
        f"{len(results)} calls, all as expected"
        if not wrong
        else f"{len(wrong)} of {len(results)} not as expected"
    )
    console.print(f"[bold {'red' if wrong else 'green'}]{verdict}[/]")
    for result in wrong:
        console.print(f"  {result.row.who}: {result.outcome}", markup=False)
