"""The steps of the sample DAGs, run as `python3 steps.py STEP`. It imports nothing of ours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ORDERS: list[dict[str, int | str]] = [
    {"order": 1001, "price": "12.50"},
    {"order": 1002, "price": "8.00"},
    {"order": 1003, "price": "n/a"},
    {"order": 1004, "price": "31.20"},
]


def extract() -> None:
    """Say how many orders there are, and for which day: conf's, where the run was given one."""
    conf = json.loads(Path(os.environ["DAG_RUN_CONF"]).read_text("utf-8"))
    say(f"reading the orders of {conf.get('day', 'yesterday')}")
    say(f"read {len(ORDERS)} orders")


def add_up() -> None:
    """Add up the prices that are numbers."""
    prices = [to_number(str(order["price"])) for order in ORDERS if order["price"] != "n/a"]
    say(f"added up {len(prices)} prices: {sum(prices):.2f}")


def report() -> None:
    """Say where the sum went."""
    say(f"reported in {os.environ['CURRENCY']}")


def clean() -> None:
    """Turn every price into a number; one is none."""
    for order in ORDERS:
        say(f"cleaning order {order['order']}")
        to_number(str(order["price"]))


def to_number(price: str) -> float:
    """Turn one price into a number."""
    return float(price)


def publish() -> None:
    """Never reached, since clean fails."""
    say("published")


def say(text: str) -> None:
    """Write one line to the task's log."""
    sys.stdout.write(text + "\n")


STEPS = {"extract": extract, "add_up": add_up, "report": report, "clean": clean, "publish": publish}

if __name__ == "__main__":
    STEPS[sys.argv[1]]()
