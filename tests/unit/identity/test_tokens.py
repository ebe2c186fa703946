"""security.md section 2 rows 7 and 12: one audience, at most 300 s, signed by a published key."""

import base64
import json

import asyncssh
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from dit4c_p2p.identity import keys, tokens
from dit4c_p2p.identity.errors import InvalidToken, WrongClock
from dit4c_p2p.identity.names import PeerName

NOW = 1_790_000_000.5
PORTAL = "http://localhost:8080"
NODE = PeerName.parse("node-home")


@pytest.fixture(params=["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ssh-rsa"])
def key(request):
    options = {"key_size": 3072} if request.param == "ssh-rsa" else {}
    return asyncssh.generate_private_key(request.param, **options)


def published(key):
    return keys.parse_public(keys.public_line(key))


def test_a_token_says_who_and_is_for_one_audience(key):
    token = tokens.issue(key, NODE, PORTAL, now=NOW, claims={"sub": "x", "iss": "node-other"})
    assert tokens.read_head(token).issuer == NODE
    read = tokens.verify(token, [published(keys.generate()), published(key)], PORTAL, now=NOW)
    assert (read.issuer, read.fingerprint) == (NODE, keys.fingerprint(key))
    assert read.claims["sub"] == "x"
    with pytest.raises(InvalidToken, match="not for"):
        tokens.verify(token, [published(key)], "http://elsewhere", now=NOW)


def test_two_tokens_never_have_the_same_jti(key):
    made = {tokens.issue(key, NODE, PORTAL, now=NOW) for _ in range(3)}
    jtis = {tokens.verify(t, [published(key)], PORTAL, now=NOW).jti for t in made}
    assert len(jtis) == 3


def test_a_key_that_is_not_published_is_refused(key):
    token = tokens.issue(key, NODE, PORTAL, now=NOW)
    for others in ([], [published(keys.generate())]):
        with pytest.raises(InvalidToken, match="not in force"):
            tokens.verify(token, others, PORTAL, now=NOW)


@pytest.mark.parametrize(("off", "good"), [(-600, False), (-59, True), (59, True), (600, False)])
def test_clock_off_by_60_s_works_and_by_10_min_says_clock(off, good):
    key = keys.generate()
    token = tokens.issue(key, NODE, PORTAL, now=NOW, lifetime_s=60)
    if good:
        tokens.verify(token, [published(key)], PORTAL, now=NOW + off)
    else:
        with pytest.raises(WrongClock) as caught:
            tokens.verify(token, [published(key)], PORTAL, now=NOW + off)
        assert "clock" in caught.value.hint


def test_a_lifetime_is_300_s_at_most():
    key = keys.generate()
    long = tokens.issue(key, NODE, PORTAL, now=NOW, lifetime_s=9999)
    assert tokens.verify(long, [published(key)], PORTAL, now=NOW).expires == int(NOW) + 300
    forged = jwt.encode(
        {"alg": "Ed25519", "kid": keys.fingerprint(key)},
        {"iss": str(NODE), "aud": PORTAL, "iat": int(NOW), "exp": int(NOW) + 301, "jti": "a" * 20},
        tokens.to_jwk(key),
        algorithms=["Ed25519"],
    )
    with pytest.raises(InvalidToken, match="300"):
        tokens.verify(forged, [published(key)], PORTAL, now=NOW)


def test_the_algorithm_is_fixed_by_the_key_and_not_by_the_token():
    key = keys.generate()
    claims = {"iss": str(NODE), "aud": PORTAL, "iat": int(NOW), "exp": int(NOW) + 60,
              "jti": "a" * 20}  # fmt: skip
    kid = keys.fingerprint(key)
    confused = jwt.encode(
        {"alg": "HS256", "kid": kid}, claims, OctKey.import_key(key.public_data * 2)
    )
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": kid}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    for token in (confused, f"{head.decode()}.{body.decode()}."):
        with pytest.raises(InvalidToken):
            tokens.verify(token, [published(key)], PORTAL, now=NOW)


NESTED = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a.b.c", "é.é.é", "." * 9000, f"e30.{NESTED}.e30"]
)
def test_what_is_no_token_is_refused(token):
    with pytest.raises(InvalidToken):
        tokens.read_head(token)


def test_a_changed_token_is_refused():
    key = keys.generate()
    head, body, signature = tokens.issue(key, NODE, PORTAL, now=NOW).split(".")
    other = tokens.issue(key, NODE, PORTAL, now=NOW + 1).split(".")[1]
    assert other != body
    with pytest.raises(InvalidToken, match="signature"):
        tokens.verify(f"{head}.{other}.{signature}", [published(key)], PORTAL, now=NOW)


def test_a_published_jwk_has_no_private_part(key):
    assert not {"d", "p", "q", "dp", "dq", "qi"} & tokens.public_jwk(key).keys()
