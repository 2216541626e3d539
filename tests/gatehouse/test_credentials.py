"""What the development issuer and CA make is accepted by the verifiers that production runs."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from gatehouse import keys
from gatehouse.devca import DevCa, parse_id
from gatehouse.errors import Failure, UsageFailure
from gatehouse.state import State
from gatehouse.tokens import DevIssuer, TokenRequest, mint, token_claims
from identity.errors import IdentityError
from identity.jwk import JwkSet
from identity.principal import ClaimNames, Issuer
from identity.svid import JwtSvidVerifier, workload_from_certificate
from identity.tokens import TokenVerifier

SSO = DevIssuer("sso", "https://sso.corp.example", "mcp", require=("employment",))
BOT = parse_id("ns/prod/sa/report-bot")


class Fixed:
    """Keys that never change."""

    def __init__(self, found: JwkSet) -> None:
        self.found = found

    def current(self) -> JwkSet:
        return self.found

    def wanted(self, kid: str | None) -> None:
        raise AssertionError(f"the key {kid} should be there")


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def verifier(state: State) -> TokenVerifier:
    public = keys.load(state.issuer_keys).public()
    policy = Issuer("sso", SSO.issuer, frozenset({"mcp"}), frozenset({"RS256"}), require=("employment",))
    return TokenVerifier([policy], {"sso": Fixed(JwkSet.parse(dumped({"keys": [public]})))})


def dumped(document: object) -> bytes:
    import json

    return json.dumps(document).encode()


def test_a_token_verifies_as_the_policys_own_issuer(state: State) -> None:
    now = time.time()
    token = mint(state, SSO, TokenRequest("ana", ("ads-eng",), ("writer",), "ide-plugin"), now)
    user = verifier(state).verify(token, None, now)
    assert (user.key, user.client) == ("sso:ana", "ide-plugin")
    assert (user.groups, user.roles) == ({"ads-eng"}, {"writer"})
    assert user.claims["employment"] == "employee"


def test_a_negative_ttl_is_wrong_in_its_age_alone(state: State) -> None:
    now = time.time()
    token = mint(state, SSO, TokenRequest("ana", ttl=-120), now)
    with pytest.raises(IdentityError) as caught:
        verifier(state).verify(token, None, now)
    assert caught.value.code == "token_expired"
    assert verifier(state).verify(token, None, now - 600).key == "sso:ana"


def test_claims_lie_where_the_issuer_has_them() -> None:
    names = ClaimNames("/realm_access/groups", "/realm_access/roles", "client_id")
    keycloak = DevIssuer("kc", "https://kc", "mcp", names.groups, names.roles, names.client)
    claims = token_claims(keycloak, TokenRequest("ana", ("g",), ("r",), "web"), 1000.0)
    assert claims["realm_access"] == {"groups": ["g"], "roles": ["r"]}
    assert claims["client_id"] == "web"


def test_a_claim_given_wins_over_every_other() -> None:
    request = TokenRequest("ana", claims={"employment": "contractor", "aud": ["a", "b"], "exp": "soon"})
    claims = token_claims(SSO, request, 1000.0)
    assert (claims["employment"], claims["aud"], claims["exp"]) == ("contractor", ["a", "b"], "soon")


def test_private_files_are_for_their_owner_alone(state: State) -> None:
    mint(state, SSO, TokenRequest("ana"), time.time())
    ca = DevCa(state)
    ca.x509_svid(BOT)
    ca.jwt_bundle("corp.example")
    ca.server_pair("users")
    private = [*state.root.rglob("*.key"), *state.root.rglob("*.jwks")]
    assert len(private) >= 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_a_key_that_others_may_read_is_refused(state: State) -> None:
    mint(state, SSO, TokenRequest("ana"), time.time())
    state.issuer_keys.chmod(0o644)
    with pytest.raises(Failure, match="others may read"):
        mint(state, SSO, TokenRequest("ana"), time.time())


def test_an_x509_svid_is_the_workload_it_says(state: State) -> None:
    pair = DevCa(state).x509_svid(BOT)
    pem = quote(pair.certificate.read_text(), safe="")
    assert workload_from_certificate(pem, {"corp.example"}, time.time()) == BOT


def test_a_ca_is_made_once_and_vouches_for_one_trust_domain(state: State) -> None:
    ca = DevCa(state)
    first = ca.x509_bundle("corp.example").read_bytes()
    assert DevCa(state).x509_bundle("corp.example").read_bytes() == first
    assert ca.x509_bundle("other.example").read_bytes() != first


def test_svids_go_where_they_are_asked_to(state: State, tmp_path: Path) -> None:
    named = DevCa(state).x509_svid(BOT, tmp_path / "bot")
    assert (named.certificate, named.key) == (tmp_path / "bot.pem", tmp_path / "bot.key")
    inside = DevCa(state).x509_svid(BOT, tmp_path)
    assert (inside.certificate, inside.key) == (tmp_path / "svid.pem", tmp_path / "svid.key")


def test_a_jwt_svid_verifies_with_its_trust_domains_bundle(state: State) -> None:
    ca, now = DevCa(state), time.time()
    bundle = JwkSet.parse_spiffe_bundle(ca.jwt_bundle("corp.example").read_bytes())
    checks = JwtSvidVerifier({"corp.example": Fixed(bundle)})
    token = ca.jwt_svid(BOT, ["https://gw/presto/mcp"], now)
    assert checks.verify(token, {"https://gw/presto/mcp"}, now).spiffe_id == BOT
    with pytest.raises(IdentityError) as caught:
        checks.verify(ca.jwt_svid(BOT, ["https://gw/presto/mcp"], now, -120), {"https://gw/presto/mcp"}, now)
    assert caught.value.code == "svid_expired"


def test_a_jwt_svid_needs_an_audience(state: State) -> None:
    with pytest.raises(UsageFailure, match="audience"):
        DevCa(state).jwt_svid(BOT, [], time.time())


def test_what_is_no_spiffe_id_is_said_so() -> None:
    with pytest.raises(UsageFailure, match="not a SPIFFE ID"):
        parse_id("spiffe://corp.example/../x")
