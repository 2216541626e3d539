"""A PostgreSQL of this test run's own, where the machine has its programs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDERS = ("/usr/lib/postgresql", "/usr/local/lib/postgresql")


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    for folder in _FOLDERS:
        for initdb in sorted(Path(folder).glob("*/bin/initdb"), reverse=True):
            return initdb.parent
    return None


@contextmanager
def running(root: Path, bin_folder: Path) -> Iterator[str]:
    """Start a server that listens on a socket below `root` alone; yields its address."""
    data, sockets = root / "data", root / "s"
    sockets.mkdir(mode=0o700)
    # PostgreSQL refuses to run as root, as which a container's tests often do.
    owner = "nobody" if os.getuid() == 0 else None
    if owner is not None:
        account = pwd.getpwnam(owner)
        for folder in (root, sockets):
            os.chown(folder, account.pw_uid, account.pw_gid)
        for folder in root.parents:
            if folder.stat().st_uid == 0 and folder != Path("/") and folder.is_relative_to("/tmp"):
                folder.chmod(folder.stat().st_mode | 0o011)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [bin_folder / program, *arguments],
            user=owner,
            cwd=root,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    run("initdb", "-D", str(data), "-U", "tests", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={sockets} -c fsync=off"
    run("pg_ctl", "-D", str(data), "-o", options, "-l", str(root / "log"), "-w", "start")
    try:
        yield f"postgresql://tests@/postgres?host={sockets}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
