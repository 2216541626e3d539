"""`python -m tests.mcpguard.vault_process`: the vault as a process; what runs is a line in a file."""

from __future__ import annotations

from pathlib import Path

from mcpguard import arguments, run
from tests.mcpguard.confirming import Vault


class WrittenVault(Vault):
    """Writes down what ran, for every process to append to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def run(self, *what: object) -> str:
        with self._file.open("a") as lines:
            lines.write(f"{what}\n")
        return "done"


if __name__ == "__main__":
    parser = arguments("vault")
    parser.add_argument("--ran", type=Path, required=True)
    options = parser.parse_args()
    run(WrittenVault(options.ran).server(), server="vault", parsed=options)
