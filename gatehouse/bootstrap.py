"""Envoy's concrete bootstrap: envoy/bootstrap.yaml with this machine's addresses in it, edited as data."""

from __future__ import annotations

from typing import TypeAlias

import yaml

from gatehouse import ports
from gatehouse.errors import Failure
from gatehouse.shipped import BOOTSTRAP, shipped
from gatehouse.state import State, write
from identity.principal import JsonValue
from pdp.deployment import Address, ClientTls, Deployment

Mapped: TypeAlias = dict[str, JsonValue]

CONTROL_PLANE = "control_plane"
_UPSTREAM_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def write_bootstrap(state: State, admin: str, deployment: Deployment) -> None:
    """Write STATE/envoy/bootstrap.yaml: Envoy's admin page on `admin`, its control plane as deployed."""
    document = yaml.safe_load(shipped(BOOTSTRAP).read_bytes())
    document["node"]["id"] = f"local-{ports.split(admin)[1]}"
    document["admin"]["address"] = _address(Address.parse(admin))
    service = deployment.control_plane
    cluster = _cluster(document)
    cluster["type"] = "STRICT_DNS" if _is_name(service.addresses[0]) else "STATIC"
    cluster["load_assignment"] = {
        "cluster_name": CONTROL_PLANE,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(a)}} for a in service.addresses]}],
    }
    if service.tls is not None:
        cluster["transport_socket"] = _tls(service.tls, service.addresses[0])
    write(state.bootstrap, yaml.safe_dump(document, sort_keys=False))


def _cluster(document: Mapped) -> Mapped:
    resources = document["static_resources"]
    clusters = resources["clusters"] if isinstance(resources, dict) else None
    for cluster in clusters if isinstance(clusters, list) else []:
        if isinstance(cluster, dict) and cluster.get("name") == CONTROL_PLANE:
            return cluster
    raise Failure(f"{BOOTSTRAP} has no cluster {CONTROL_PLANE}")


def _is_name(address: Address) -> bool:
    return not address.unix and not address.host.replace(".", "").isdecimal() and ":" not in address.host


def _address(address: Address) -> Mapped:
    if address.unix:
        return {"pipe": {"path": address.unix}}
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _tls(tls: ClientTls, address: Address) -> Mapped:
    """Mutual TLS to the control plane, which must prove the name it is known by."""
    name = tls.server_name or address.host
    san: Mapped = {"san_type": "DNS", "matcher": {"exact": name}}
    context: Mapped = {
        "validation_context": {
            "trusted_ca": {"filename": str(tls.ca)},
            "match_typed_subject_alt_names": [san],
        },
        "alpn_protocols": ["h2"],
    }
    if tls.certificate is not None and tls.key is not None:
        context["tls_certificates"] = [
            {
                "certificate_chain": {"filename": str(tls.certificate)},
                "private_key": {"filename": str(tls.key)},
            }
        ]
    typed: Mapped = {"@type": _UPSTREAM_TLS, "sni": name, "common_tls_context": context}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}
