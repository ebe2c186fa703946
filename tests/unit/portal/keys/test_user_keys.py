"""A pasted line: a public key that is accepted, or an error that says what to do."""

import asyncssh
import pytest

from dit4c_p2p.identity.keys import fingerprint, public_line
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.keys.user_keys import openssh_fingerprint, parse_user_key_line

SK = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2"
    "170QduohPURkQnbLa/dczAAAABHNzaDo="
)


def line(algorithm="ssh-ed25519", comment="", **more):
    return public_line(asyncssh.generate_private_key(algorithm, **more), comment)


@pytest.mark.parametrize(
    "text",
    [
        line(),
        line("ecdsa-sha2-nistp256"),
        line("ecdsa-sha2-nistp384"),
        line("ecdsa-sha2-nistp521"),
        line("ssh-rsa", key_size=3072),
        SK,
    ],
    ids=["ed25519", "p256", "p384", "p521", "rsa", "security key"],
)
def test_keys_of_these_types_are_taken_with_their_comment(text):
    key, comment = parse_user_key_line(f"  {text} me and my  laptop \r\n")
    assert public_line(key) == text
    assert comment == "me and my laptop"


def test_the_fingerprint_is_the_one_that_openssh_prints():
    key, _ = parse_user_key_line(SK)
    assert openssh_fingerprint(fingerprint(key)) == key.get_fingerprint()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "paste the line"),
        (" \n ", "paste the line"),
        ("hello", "does not begin with the type"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "private key"),
        ("ssh-ed25519", "not an SSH public key"),
        ("ssh-ed25519 AAAA", "not an SSH public key"),
        ("ssh-ed25519 \u202eAAAA", "not an SSH public key"),
        ('command="x" ' + line(), "does not begin with the type"),
        ("restrict " + line(), "does not begin with the type"),
        (line() + "\n" + line(), "several lines"),
        ("ssh-ed25519 " + "A" * 20_000, "too long"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAP", "not an SSH public key"),
        (line("ssh-rsa", key_size=2048), "too short"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "not an SSH public key"),
    ],
    ids=range(14),
)
def test_everything_else_is_refused_and_says_why(text, word):
    with pytest.raises(BadRequest) as caught:
        parse_user_key_line(text)
    assert word in str(caught.value)
    assert caught.value.field == "line"
