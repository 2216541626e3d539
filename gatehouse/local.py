"""A deployment made concrete for this machine: every port chosen, every file there, every issuer reachable.

It works on the file's plain data and writes the same kind of file again, into the state folder, so that every
process reads one format. What is wrong in the file is said by `pdp.deployment`, which reads the result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import yaml

from gatehouse import ports
from gatehouse.devca import DevCa, Pair
from gatehouse.errors import Failure
from gatehouse.state import State, write
from gatehouse.tokens import DevIssuer
from identity.principal import JsonValue

Mapped: TypeAlias = dict[str, JsonValue]

GATEWAY_SVID = "spiffe://{trust_domain}/ns/gatehouse/sa/mcp-gateway"


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What a deployment must fit: the trust domains and issuers that policy names."""

    trust_domains: tuple[str, ...]
    issuers: tuple[DevIssuer, ...]
    foreign_keys: frozenset[str] = frozenset()
    """Issuers whose keys policy itself has at hand (a file, or loopback), so that they need no stand-in."""


@dataclass(slots=True)
class PortChoice:
    """Ports for this run. A port that is 0, or taken where `move` says so, becomes a free one."""

    move: bool
    moved: dict[str, str] = field(default_factory=dict)
    """By address as the file has it, for those that were taken."""
    _given: set[int] = field(default_factory=set)

    def choose(self, address: str, what: str) -> str:
        """The address that `what` listens on."""
        if address.startswith("unix:"):
            return address
        host, port = ports.split(address)
        if port != 0 and port not in self._given and ports.is_free(host, port):
            self._given.add(port)
            return address
        if port != 0 and not self.move:
            raise Failure(f"{what}: {address} is in use", "stop what listens there, or set its port to 0")
        chosen = ports.free_port(self._given, host)
        self._given.add(chosen)
        result = ports.join(host, chosen)
        if port != 0:
            self.moved[address] = result
        return result


@dataclass(frozen=True, slots=True)
class Local:
    """The concrete deployment, and the addresses that stand nowhere in it."""

    path: Path
    moved: dict[str, str]
    issuer: str
    extauthz_metrics: str
    xds_metrics: str
    envoy_admin: str


def localize(
    source: Path,
    state: State,
    facts: PolicyFacts,
    *,
    move_ports: bool,
    listening: Callable[[str], bool],
    added: Collection[str] = (),
) -> Local:
    """Write the concrete deployment for `source` into the state folder.

    `listening(name)` says whether this stack starts that endpoint's server, so that its port must be free;
    `added` are servers that it starts on any port where the file doesn't place them.
    """
    document = _read(source)
    choice = PortChoice(move_ports)
    for name in added:
        _child(document, "endpoints").setdefault(name, {"address": "127.0.0.1:0"})
    ca = DevCa(state)
    _choose_listeners(document, choice)
    _choose_services(document, choice)
    _choose_endpoints(document, choice, listening)
    issuer = _issuers(document, choice, facts)
    _tls(document, source.parent, ca, facts)
    _trust_bundles(document, source.parent, ca, facts)
    _absolute(document, source.parent)
    header = f"# Written by `gatehouse up` from {source}; changes are lost.\n"
    write(state.deployment, header + yaml.safe_dump(document, sort_keys=False))
    return Local(
        path=state.deployment,
        moved=choice.moved,
        issuer=issuer,
        extauthz_metrics=choice.choose("127.0.0.1:0", "ext_authz metrics"),
        xds_metrics=choice.choose("127.0.0.1:0", "control plane metrics"),
        envoy_admin=choice.choose("127.0.0.1:0", "Envoy's admin page"),
    )


def _read(source: Path) -> Mapped:
    try:
        document = yaml.safe_load(source.read_bytes())
    except OSError as error:
        raise Failure(f"cannot read the deployment {source}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise Failure(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or document.get("kind") != "Deployment":
        raise Failure(f"{source} is not a Deployment", "envoy/deployment.local.yaml shows what one says")
    return document


def _child(document: Mapped, name: str) -> Mapped:
    """The mapping under `name`, made where absent; another type is left for `pdp.deployment` to refuse."""
    value = document.setdefault(name, {})
    return value if isinstance(value, dict) else {}


def _children(document: Mapped, name: str) -> Iterator[tuple[str, Mapped]]:
    value = document.get(name)
    if isinstance(value, dict):
        yield from ((key, child) for key, child in value.items() if isinstance(child, dict))


def _choose_listeners(document: Mapped, choice: PortChoice) -> None:
    public = document.get("public_url")
    for name, listener in _children(document, "listeners"):
        before = str(listener.get("address", ""))
        after = choice.choose(before, f"listeners.{name}")
        listener["address"] = after
        if name == "users" and isinstance(public, str):
            document["public_url"] = _with_port(public, ports.split(before)[1], ports.split(after)[1])


def _with_port(url: str, before: int, after: int) -> str:
    """The public URL follows the users' listener, where it named that listener's port."""
    parts = urlsplit(url)
    if parts.port != before or parts.hostname is None:
        return url
    return parts._replace(netloc=ports.join(parts.hostname, after)).geturl()


def _choose_services(document: Mapped, choice: PortChoice) -> None:
    for name in ("ext_authz", "control_plane"):
        service = _child(document, name)
        if "address" in service:
            service["address"] = choice.choose(str(service["address"]), name)
        elif isinstance(addresses := service.get("addresses"), list):
            service["addresses"] = [choice.choose(str(address), name) for address in addresses]


def _choose_endpoints(document: Mapped, choice: PortChoice, listening: Callable[[str], bool]) -> None:
    """An endpoint that somebody else serves keeps its port; port 0 becomes one for them to take."""
    for name, endpoint in _children(document, "endpoints"):
        address = endpoint.get("address")
        if isinstance(address, str) and (listening(name) or address.endswith(":0")):
            endpoint["address"] = choice.choose(address, f"endpoints.{name}")


def _issuers(document: Mapped, choice: PortChoice, facts: PolicyFacts) -> str:
    """Point policy's issuers at the development issuer, and choose where that one listens.

    An issuer of the file whose keys somebody serves already, or that isn't on loopback, keeps them.
    """
    named = {name: str(source.get("jwks_uri", "")) for name, source in _children(document, "issuers")}
    wanted = [uri for uri in named.values() if _is_ours(uri, choice)]
    port = urlsplit(wanted[0]).port if wanted else 0
    address = choice.choose(f"127.0.0.1:{port}", "development issuer")
    ours = {name for name, uri in named.items() if uri in wanted}
    ours |= {i.name for i in facts.issuers if i.name not in named and i.name not in facts.foreign_keys}
    issuers = _child(document, "issuers")
    for name in sorted(ours):
        issuers[name] = {"jwks_uri": f"http://{address}/jwks"}
    return address


def _is_ours(uri: str, choice: PortChoice) -> bool:
    """Whether the development issuer is to answer there: on loopback, where nobody does yet."""
    parts = urlsplit(uri)
    if parts.scheme != "http" or parts.hostname != "127.0.0.1" or parts.port is None:
        return False
    return parts.port == 0 or choice.move or ports.is_free(parts.hostname, parts.port)


def _tls(document: Mapped, base: Path, ca: DevCa, facts: PolicyFacts) -> None:
    """Give a listener its certificate: the file's own, or one of the development CA's."""
    gateway = GATEWAY_SVID.format(trust_domain=facts.trust_domains[0]) if facts.trust_domains else None
    for name, listener in _children(document, "listeners"):
        tls = listener.get("tls")
        if name == "mesh" and tls is None:
            tls = listener["tls"] = {}
        if not isinstance(tls, dict) or _exists(base, tls.get("certificate")):
            continue
        pair = ca.server_pair(name, gateway if name == "mesh" else None)
        listener["tls"] = _pair(pair)


def _pair(pair: Pair) -> Mapped:
    return {"certificate": str(pair.certificate.absolute()), "key": str(pair.key.absolute())}


def _trust_bundles(document: Mapped, base: Path, ca: DevCa, facts: PolicyFacts) -> None:
    """Vouch for every trust domain of policy that the file brings no bundle for."""
    bundles = _child(document, "trust_bundles")
    for domain in facts.trust_domains:
        bundle = bundles.get(domain)
        if isinstance(bundle, dict) and any(_exists(base, file) for file in bundle.values()):
            continue
        bundles[domain] = {
            "x509": str(ca.x509_bundle(domain).absolute()),
            "jwt": str(ca.jwt_bundle(domain).absolute()),
        }


def _exists(base: Path, file: JsonValue) -> bool:
    return isinstance(file, str) and (base / file).exists()


_FILES = frozenset({"certificate", "key", "ca", "x509", "jwt", "jwks_file"})


def _absolute(node: JsonValue, base: Path) -> None:
    """Make every file's path independent of where the concrete deployment lies."""
    if isinstance(node, list):
        for item in node:
            _absolute(item, base)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name in _FILES and isinstance(value, str):
                node[name] = str((base / value).absolute())
            else:
                _absolute(value, base)
