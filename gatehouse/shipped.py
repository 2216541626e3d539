"""What lies in the repository beside the packages: the policies and the deployment a newcomer starts from."""

from __future__ import annotations

from pathlib import Path

from gatehouse.errors import Failure

_REPOSITORY = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """A file or folder of the repository, from its root.

    Raises:
        Failure: the packages are installed without it.

    """
    path = _REPOSITORY / name
    if not path.exists():
        raise Failure(
            f"{name} is not there: this installation is not a checkout", "name your own with an option"
        )
    return path


POLICIES = "policies"
DEPLOYMENT = "envoy/deployment.local.yaml"
BOOTSTRAP = "envoy/bootstrap.yaml"
