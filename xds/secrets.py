"""Certificates, keys and trust, as SDS secrets with their content inline.

Envoy may run where the files don't lie, and gets a renewed certificate as any other change: the control plane
reads the files (material.py) and pushes. That stream is on loopback or mutual TLS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls

from pdp.deployment import ClientTls, Deployment, ServerTls
from pdp.model import Snapshot
from xds.authoring import EXT_AUTHZ_CLUSTER, MESH, USERS, extension, inline
from xds.resource import Kind, Resource

MESH_TRUST = "mesh-trust"


def certificate_name(owner: str) -> str:
    """The secret that holds the certificate and key of a listener, or of us as a client."""
    return f"{owner}-certificate"


def authority_name(ca: Path) -> str:
    """The secret that holds the authorities of a file; servers that share a file share the secret."""
    return f"ca:{ca}"


def secrets(snapshot: Snapshot, deployment: Deployment, material: Mapping[Path, bytes]) -> list[Resource]:
    """Every secret that listeners and clusters name."""
    found = []
    for owner, door in ((USERS, deployment.users), (MESH, deployment.mesh)):
        if door is not None and door.tls is not None:
            found.append(_certificate(owner, door.tls.certificate, door.tls.key, material))
    if deployment.mesh is not None:
        found.append(_mesh_trust(snapshot, deployment, material))
    client = deployment.ext_authz.tls
    if client is not None and client.certificate is not None and client.key is not None:
        found.append(_certificate(EXT_AUTHZ_CLUSTER, client.certificate, client.key, material))
    for ca in sorted(_authorities(deployment)):
        context = tls.CertificateValidationContext(trusted_ca=inline(material[ca]))
        found.append(_secret(tls.Secret(name=authority_name(ca), validation_context=context)))
    return found


def files(deployment: Deployment) -> frozenset[Path]:
    """Every file that `secrets` needs the content of."""
    paths = set(_authorities(deployment))
    doors = [door.tls for door in (deployment.users, deployment.mesh) if door is not None]
    proofs: Iterable[ServerTls | ClientTls | None] = (*doors, deployment.ext_authz.tls)
    for proof in proofs:
        if proof is not None:
            paths |= {path for path in (proof.certificate, proof.key) if path is not None}
    if deployment.mesh is not None:
        paths |= {b.x509 for b in deployment.trust_bundles.values() if b.x509 is not None}
    return frozenset(paths)


def trusted_domains(snapshot: Snapshot, deployment: Deployment) -> dict[str, Path]:
    """The authorities of each trust domain that policy names and the deployment has."""
    bundles = deployment.trust_bundles
    return {
        domain: bundle.x509
        for domain in sorted(snapshot.trust_domains & bundles.keys())
        if (bundle := bundles[domain]).x509 is not None
    }


def _authorities(deployment: Deployment) -> set[Path]:
    clients = [deployment.ext_authz.tls, *(e.tls for e in deployment.endpoints.values())]
    return {client.ca for client in clients if client is not None}


def _certificate(owner: str, certificate: Path, key: Path, material: Mapping[Path, bytes]) -> Resource:
    pair = tls.TlsCertificate(
        certificate_chain=inline(material[certificate]), private_key=inline(material[key])
    )
    return _secret(tls.Secret(name=certificate_name(owner), tls_certificate=pair))


def _mesh_trust(snapshot: Snapshot, deployment: Deployment, material: Mapping[Path, bytes]) -> Resource:
    """Each trust domain is verified against its own authorities only, as SPIFFE asks."""
    validator = tls.SpiffeCertValidatorConfig(
        trust_domains=[
            tls.SpiffeCertValidatorConfigTrustDomain(name=domain, trust_bundle=inline(material[bundle]))
            for domain, bundle in trusted_domains(snapshot, deployment).items()
        ]
    )
    context = tls.CertificateValidationContext(
        custom_validator_config=extension("envoy.tls.cert_validator.spiffe", validator)
    )
    return _secret(tls.Secret(name=MESH_TRUST, validation_context=context))


def _secret(message: tls.Secret) -> Resource:
    return Resource.of(Kind.SECRET, message.name, bytes(message))
