"""Signatures on approvals, made and checked by the real ssh-keygen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdp.approve import ApprovalRefused, Approved, approve
from pdp.schema import ApprovalPart, ReviewsFile
from pdp.signature import NAMESPACE, SigningFailed, message, public_key, sign, verified
from pdp.source import read
from tests.pdp.folder import NOW, PolicyFolder

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen")

KEYS = {"ed25519": (), "ecdsa": ("-b", "256"), "rsa": ("-b", "2048")}
DANA = "dana@corp.example"


def key(folder: Path, kind: str = "ed25519", name: str = "key", extra: tuple[str, ...] = ()) -> Path:
    path = folder / name
    arguments = [
        "-q",
        "-t",
        kind,
        "-N",
        "",
        "-C",
        "a comment",
        "-f",
        str(path),
        *(extra or KEYS.get(kind, ())),
    ]
    subprocess.run(["ssh-keygen", *arguments], check=True)
    return path


def public(path: Path) -> str:
    return path.with_suffix(".pub").read_text().strip()


def approval(**changed: str) -> ApprovalPart:
    said = {
        "digest": "sha256:" + "0" * 64,
        "ticket": "SEC-1",
        "approver": DANA,
        "approved": "2026-11-23T00:00:00Z",
        "expires": "2027-05-01T00:00:00Z",
    }
    return ApprovalPart.model_validate({**said, **changed})


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_signed_and_verified(tmp_path: Path, kind: str) -> None:
    path = key(tmp_path, kind)
    signed = approval(signature=sign("presto", "security", approval(), path))
    assert verified("presto", "security", signed, [public(path)])
    assert not verified("presto", "security", signed, [public(key(tmp_path, kind, "other"))])
    assert not verified("presto", "security", signed, [])
    assert not verified("presto", "security", approval(), [public(path)])


@pytest.mark.parametrize(
    ("subject", "kind", "changed"),
    [
        ("spark", "security", {}),
        ("presto", "genai", {}),
        ("presto", "security", {"digest": "sha256:" + "1" * 64}),
        ("presto", "security", {"expires": "2027-05-02T00:00:00Z"}),
        ("presto", "security", {"approved": "2026-11-22T00:00:00Z"}),
        ("presto", "security", {"approver": "lee@corp.example"}),
        ("presto", "security", {"ticket": "SEC-2"}),
    ],
)
def test_a_signature_is_of_exactly_one_approval(
    tmp_path: Path, subject: str, kind: str, changed: dict[str, str]
) -> None:
    path = key(tmp_path)
    signature = sign("presto", "security", approval(), path)
    assert not verified(subject, kind, approval(signature=signature, **changed), [public(path)])


def test_a_signature_for_something_else_is_none(tmp_path: Path) -> None:
    path = key(tmp_path)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(path)]
    data = message("presto", "security", approval())
    made = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()
    assert not verified("presto", "security", approval(signature=made), [public(path)])


def test_ssh_keygen_agrees(tmp_path: Path) -> None:
    path = key(tmp_path)
    (tmp_path / "sig").write_text(sign("presto", "security", approval(), path))
    (tmp_path / "allowed").write_text(f"{DANA} {public(path)}\n")
    command = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        str(tmp_path / "allowed"),
        "-I",
        DANA,
        "-n",
        NAMESPACE,
        "-s",
        str(tmp_path / "sig"),
    ]
    done = subprocess.run(
        command, input=message("presto", "security", approval()), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_weak_and_foreign_keys_are_no_keys(tmp_path: Path) -> None:
    assert public_key(public(key(tmp_path, "rsa", extra=("-b", "1024")))) is None
    for text in ("", "ssh-ed25519", "ssh-ed25519 AAAA", "x" * 1000, "ssh-rsa \ud800"):
        assert public_key(text) is None


def test_signing_without_a_key_says_why(tmp_path: Path) -> None:
    with pytest.raises(SigningFailed, match="No such file"):
        sign("presto", "security", approval(), tmp_path / "none")


@given(
    st.text(max_size=200)
    | st.binary(max_size=120).map(
        lambda b: "-----BEGIN SSH SIGNATURE-----\n" + b.hex() + "\n-----END SSH SIGNATURE-----"
    )
)
def test_no_text_makes_verifying_fail(text: str) -> None:
    ours = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJDbCLu3AYbCPgTDxqy4kq1wJ0kZlDtfP6d4Rxb3Pq0u"
    assert public_key(ours) is not None
    assert not verified("presto", "security", approval(signature=text), [ours])


def signed_by(folder: PolicyFolder, path: Path | None) -> Approved:
    return approve(
        folder.root, folder.reviewers, "presto", kind="security", approver=DANA, ticket="T", now=NOW, key=path
    )


def test_where_signatures_are_required(folder: PolicyFolder, tmp_path: Path) -> None:
    path = key(tmp_path)
    text = folder.reviewers.read_text().replace(
        "{kinds: [security]}", f"{{kinds: [security], keys: ['{public(path)}']}}"
    )
    folder.reviewers.write_text(text)
    signed_by(folder, path)
    folder.reviewers.write_text(text + "require_signatures: true\n")
    assert "lee@corp.example can approve nothing" in "\n".join(folder.errors())
    keyed = folder.reviewers.read_text()
    for kind in ("legal-privacy", "genai"):
        keyed = keyed.replace(f"[{kind}]", f"[{kind}], keys: ['{public(key(tmp_path, name=kind))}']")
    folder.reviewers.write_text(keyed)
    said = "\n".join(folder.errors())
    assert "the signature of 'dana@corp.example' is missing" in said  # the organization's own
    with pytest.raises(ApprovalRefused, match=r"the signature of .dana@corp\.example. is missing"):
        signed_by(folder, None)
    with pytest.raises(ApprovalRefused, match="doesn't verify"):
        signed_by(folder, tmp_path / "genai")
    assert signed_by(folder, path).missing == {"legal-privacy"}


def test_a_signature_that_is_there_must_verify_even_where_none_is_required(
    folder: PolicyFolder, tmp_path: Path
) -> None:
    path = key(tmp_path)
    text = folder.reviewers.read_text()
    folder.reviewers.write_text(
        text.replace("{kinds: [security]}", f"{{kinds: [security], keys: ['{public(path)}']}}")
    )
    signed_by(folder, path)
    reviews = read("r", (folder.root / "reviews/security/presto.yaml").read_bytes(), ReviewsFile).model
    assert reviews is not None
    assert reviews.approvals[-1].signature is not None
    assert folder.closed() == []
    folder.edit("reviews/security/presto.yaml", 'ticket: "T"', 'ticket: "U"')
    assert "the signature of 'dana@corp.example' doesn't verify" in folder.closed()[0]
