"""SSH signatures on approvals: whoever wrote the file, the reviewer's own key says who approved.

The format is OpenSSH's SSHSIG (PROTOCOL.sshsig), as `ssh-keygen -Y sign -n gatehouse-approval` makes it. It
is verified here, without a process per approval; ssh-keygen signs, because it knows agents and tokens.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import rfc8785
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from pdp.digest import rfc3339
from pdp.schema import ApprovalPart

NAMESPACE = "gatehouse-approval"
"""What these signatures are for: one made for git or for mail is not one of these."""

PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_DIGESTS = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_RSA = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}  # never ssh-rsa: that is SHA-1
_ECDSA = {  # RFC 5656 sections 6.2.1 and 10.1: by curve, the algorithm and its hash
    "secp256r1": (b"ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": (b"ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": (b"ecdsa-sha2-nistp521", hashes.SHA512()),
}
_RSA_MIN_BITS = 2048


class SigningFailed(Exception):
    """ssh-keygen made no signature; the message is its own."""


class _Malformed(Exception):
    """The signature is not an SSHSIG."""


def message(subject: str, kind: str, approval: ApprovalPart) -> bytes:
    """What is signed: everything that an approval says, and of what, but not whether it was revoked."""
    said = {
        "subject": subject,
        "kind": kind,
        "digest": approval.digest,
        "ticket": approval.ticket,
        "approver": approval.approver,
        "approved": rfc3339(approval.approved),
        "expires": rfc3339(approval.expires),
    }
    return b"gatehouse-approval-v1\n" + rfc8785.dumps(said)


def verified(subject: str, kind: str, approval: ApprovalPart, keys: Iterable[str]) -> bool:
    """Whether the approval's signature is by one of `keys`, each a line of a .pub file. Without one: no."""
    if approval.signature is None:
        return False
    data = message(subject, kind, approval)
    try:
        return any(_verify(data, approval.signature, key) for key in keys)
    except _Malformed:
        return False


def public_key(text: str) -> PublicKey | None:
    """A key that approvals may be signed with, or None: RSA below 2048 bits, DSA, or no key at all."""
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm, UnicodeEncodeError):
        return None
    if isinstance(key, rsa.RSAPublicKey):
        return key if key.key_size >= _RSA_MIN_BITS else None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key if key.curve.name in _ECDSA else None
    return key if isinstance(key, ed25519.Ed25519PublicKey) else None


def sign(subject: str, kind: str, approval: ApprovalPart, key: Path) -> str:
    """A signature by ssh-keygen. It may ask on the terminal for a passphrase or a touch.

    Raises:
        SigningFailed: there is no ssh-keygen, or it refused.

    """
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and no word of it from outside but a path
            command, input=message(subject, kind, approval), capture_output=True, check=False
        )
    except OSError as error:
        raise SigningFailed(f"ssh-keygen can't be run: {error.strerror}") from error
    if done.returncode != 0:
        raise SigningFailed(done.stderr.decode("utf-8", "replace").strip() or "ssh-keygen failed")
    return done.stdout.decode("ascii")


class _Reader:
    """SSH wire format (RFC 4251 section 5): strings with their length before them."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, count: int) -> bytes:
        if len(self._rest) < count:
            raise _Malformed
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        if self._rest:
            raise _Malformed


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _verify(data: bytes, armored: str, key_text: str) -> bool:
    key = public_key(key_text)
    if key is None:
        return False
    outer = _Reader(_dearmored(armored))
    if outer.take(len(_MAGIC)) != _MAGIC or int.from_bytes(outer.take(4), "big") != 1:
        raise _Malformed
    signer, namespace, reserved, digest_name = (outer.string() for _ in range(4))
    inner = _Reader(outer.string())
    outer.end()
    algorithm, signature = inner.string(), inner.string()
    inner.end()
    digest = _DIGESTS.get(digest_name)
    if namespace != NAMESPACE.encode() or digest is None or signer != _blob(key_text):
        return False
    signed = _MAGIC + b"".join(map(_string, (namespace, reserved, digest_name, digest(data).digest())))
    return _signature_holds(key, algorithm, signature, signed)


def _blob(key_text: str) -> bytes:
    """The key itself, as it stands within a signature."""
    return base64.b64decode(key_text.split()[1])


def _dearmored(text: str) -> bytes:
    lines = text.strip().split("\n")
    if len(lines) < 3 or lines[0].strip() != _BEGIN or lines[-1].strip() != _END:
        raise _Malformed
    try:
        return base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Malformed from error


def _signature_holds(key: PublicKey, algorithm: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            if algorithm != b"ssh-ed25519":
                return False
            key.verify(signature, signed)
        elif isinstance(key, rsa.RSAPublicKey):
            if algorithm not in _RSA:
                return False
            key.verify(signature, signed, padding.PKCS1v15(), _RSA[algorithm])
        else:
            expected, hashing = _ECDSA[key.curve.name]
            if algorithm != expected:
                return False
            key.verify(_der(signature), signed, ec.ECDSA(hashing))
    except InvalidSignature:
        return False
    return True


def _der(signature: bytes) -> bytes:
    """RFC 5656 section 3.1.2: two integers, where cryptography takes them as DER."""
    reader = _Reader(signature)
    r, s = (int.from_bytes(reader.string(), "big") for _ in range(2))
    reader.end()
    return encode_dss_signature(r, s)
