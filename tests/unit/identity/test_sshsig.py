import subprocess

import asyncssh
import pytest

from dit4c_p2p.identity import keys, sshsig
from dit4c_p2p.identity.errors import InvalidSignature

DATA = b"what is signed"


@pytest.fixture(params=["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def key(request):
    options = {"key_size": 3072} if request.param == "ssh-rsa" else {}
    return asyncssh.generate_private_key(request.param, **options)


def test_a_signature_verifies_for_its_data_key_and_namespace_only(key):
    signature = sshsig.sign(key, DATA, "dit4c-keys")
    other = keys.generate()
    sshsig.verify(DATA, signature, "dit4c-keys", [other, key])
    for data, namespace, allowed in [
        (DATA + b".", "dit4c-keys", [key]),
        (DATA, "dit4c-events", [key]),
        (DATA, "dit4c-keys", [other]),
        (DATA, "dit4c-keys", []),
    ]:
        with pytest.raises(InvalidSignature):
            sshsig.verify(data, signature, namespace, allowed)


def test_a_signature_goes_through_a_header_and_back(key):
    signature = sshsig.sign(key, DATA, "dit4c-keys")
    header = sshsig.without_armor(signature)
    assert header.isascii() and "\n" not in header and "-" not in header
    assert sshsig.with_armor(header) == signature


@pytest.mark.parametrize("junk", ["", "x", "-----BEGIN SSH SIGNATURE-----\n", "\n" * 9])
def test_what_is_no_signature_is_refused(junk):
    with pytest.raises(InvalidSignature):
        sshsig.verify(DATA, junk, "dit4c-keys", [keys.generate()])


def test_ssh_keygen_verifies_ours_and_we_verify_its(key, tmp_path):
    private, message = tmp_path / "key", tmp_path / "message"
    keys.write_private(private, key)
    message.write_bytes(DATA)
    sign = ["ssh-keygen", "-Y", "sign", "-f", private, "-n", "dit4c-enrol", message]
    subprocess.run(sign, check=True, capture_output=True, timeout=20)
    theirs = (tmp_path / "message.sig").read_text()
    sshsig.verify(DATA, theirs, "dit4c-enrol", [key])

    (tmp_path / "ours.sig").write_text(sshsig.sign(key, DATA, "dit4c-enrol"))
    (tmp_path / "allowed").write_text(f"peer {keys.public_line(key)}\n")
    check = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "allowed", "-I", "peer",
             "-n", "dit4c-enrol", "-s", tmp_path / "ours.sig"]  # fmt: skip
    subprocess.run(check, input=DATA, check=True, capture_output=True, timeout=20)
