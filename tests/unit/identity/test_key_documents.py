import dataclasses

import pytest

from dit4c_p2p.identity import key_documents, keys
from dit4c_p2p.identity.errors import InvalidDocument
from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.names import PeerName

NOW = 1_790_000_000
NODE = PeerName.parse("node-home")


def document(**changes):
    plain = KeyDocument(
        name=NODE, serial=12, change=7, issued=NOW, expires=NOW + 3600,
        keys=(keys.parse_public(keys.public_line(keys.generate())),), scheduler="main",
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def test_a_document_round_trips():
    made = document()
    read = key_documents.parse(key_documents.compose_key_document(made), NODE, NOW + 5)
    assert read.fingerprints() == made.fingerprints()
    assert dataclasses.replace(read, keys=()) == dataclasses.replace(made, keys=())


def test_none_in_force_is_a_document_too():
    read = key_documents.parse(
        key_documents.compose_key_document(document(keys=(), scheduler=None)), NODE, NOW
    )
    assert read.keys == ()
    assert read.scheduler is None


def test_a_document_is_an_authorized_keys_file():
    lines = key_documents.compose_key_document(document()).decode().splitlines()
    assert lines[0].startswith("# ")
    assert lines[1].startswith("ssh-ed25519 AAAA")
    assert lines[1].endswith(" node-home")


def test_a_document_of_another_name_is_refused():
    with pytest.raises(InvalidDocument, match="node-home"):
        key_documents.parse(
            key_documents.compose_key_document(document()), PeerName.parse("node-other"), NOW
        )


def test_an_expired_document_is_refused():
    with pytest.raises(InvalidDocument, match="expired"):
        key_documents.parse(key_documents.compose_key_document(document()), NODE, NOW + 3600)


def test_a_clock_that_is_behind_is_named():
    body = key_documents.compose_key_document(document())
    key_documents.parse(body, NODE, NOW - 59)
    with pytest.raises(InvalidDocument) as caught:
        key_documents.parse(body, NODE, NOW - 600)
    assert "clock" in caught.value.hint


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"ssh-ed25519 AAAA\n", b"# dit4c-keys\n", b"# dit4c-keys kind=node id=home\n",
     b"# dit4c-keys kind=node id=home serial=x change=1 issued=1 expires=2\n", b"\xff\xfe",
     b"# dit4c-keys kind=node id=home serial=1 change=1 issued=1 expires=99999999999\nnokey\n",
     b"x" * 100_000],
)  # fmt: skip
def test_what_is_no_document_is_refused(body):
    with pytest.raises(InvalidDocument):
        key_documents.parse(body, NODE, NOW)
