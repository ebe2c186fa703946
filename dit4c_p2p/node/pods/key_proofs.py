"""Proofs that a new instance's key belongs to its instance and its node."""

import asyncssh

from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.keys import fingerprint, public_line
from dit4c_p2p.messages.link import INSTANCE_KEY_NAMESPACE, key_statement
from dit4c_p2p.messages.node import PodKey
from dit4c_p2p.node.config import NodeConfig


def key_proofs(config: NodeConfig, instance: str, key: asyncssh.SSHKey, nonce: str) -> PodKey:
    """Return the public half of ``key`` with the signatures of the instance and of its node.

    :param nonce: the portal's, see :func:`~dit4c_p2p.messages.link.key_statement`.
    """
    statement = key_statement(instance, str(config.name), fingerprint(key), nonce)
    return PodKey(
        public_key=public_line(key),
        instance_signature=sshsig.sign(key, statement, INSTANCE_KEY_NAMESPACE),
        node_signature=sshsig.sign(config.key, statement, INSTANCE_KEY_NAMESPACE),
    )
