"""Enrolment: publish a peer's key, with proof that the peer holds it.

The proof is an SSHSIG of ``messages.enrol.enrol_statement``, made with the new key itself;
``ssh-keygen -Y sign -n dit4c-enrol`` makes the same. A program enrols a key by two calls:

    POST /api/v1/keys/challenge {}                        → 201 {"nonce", "expires_in"}
    POST /api/v1/keys {"kind", "id", "public_key", "nonce", "signature", "scheduler"?}
                                                          → 201 {"fingerprint", "name", …}

``public_key`` is the line of the .pub file, ``scheduler`` the id of the scheduler that a node is to
belong to. Both need an admin's token.
"""

import time
from collections.abc import Callable

import asyncssh

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.errors import IdentityError
from dit4c_p2p.identity.keys import fingerprint
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.enrol import ENROL_NAMESPACE, enrol_statement
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import BadRequest, PortalError
from dit4c_p2p.portal.keys.owners import set_owner_of_node
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.models import EnrolNonce
from dit4c_p2p.portal.opaque_tokens import digest, new_token

# A portal's own key, an instance's and a user's come into force in other ways.
ENROLLABLE = (Kind.SCHEDULER, Kind.ROUTER, Kind.NODE, Kind.FILESERVER, Kind.IMAGESERVER)


class Enrolment:
    """Challenges for enrolment, and the check of their proofs."""

    def __init__(
        self,
        registry: KeyRegistry,
        portal_url: str,
        nonce_lifetime_s: int,
        audit: Audit,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._url = portal_url
        self._lifetime_s = nonce_lifetime_s
        self._audit = audit
        self._clock = clock

    async def challenge(self, person: str) -> str:
        """Return a nonce for one enrolment by this person."""
        nonce = new_token()
        await EnrolNonce.create(
            digest=digest(nonce), person_id=person, expires_at=self._clock() + self._lifetime_s
        )
        return nonce

    async def enrol(
        self,
        person: str,
        name: PeerName,
        key: asyncssh.SSHKey,
        nonce: str,
        signature: str,
        *,
        scheduler: str | None = None,
        owner: str | None = None,
    ) -> str:
        """Bring ``key`` into force for ``name`` and return its fingerprint.

        Enrolling the same key for the same name again is fine and changes nothing but the owner.

        :param scheduler: required for a node, and for nothing else.
        :param owner: the id of the person who lends a node; None leaves it as it is.
        :raises BadRequest: of a kind that isn't enrolled so, no such nonce, used, or expired.
        :raises InvalidSignature: the key did not sign the statement.
        :raises Conflict: the key has another holder or was revoked.
        """
        try:
            return await self._enrol(person, name, key, nonce, signature, scheduler, owner)
        except (PortalError, IdentityError) as error:
            about = f"{name} {fingerprint(key)}"
            await self._audit.record_refusal("key.publish", error, who=person, about=about)
            raise

    async def _enrol(
        self,
        person: str,
        name: PeerName,
        key: asyncssh.SSHKey,
        nonce: str,
        signature: str,
        scheduler: str | None,
        owner: str | None,
    ) -> str:
        if name.kind not in ENROLLABLE:
            raise BadRequest(
                f"a {name.kind}'s key is not enrolled by hand",
                field="kind",
                hint=f"kinds are {', '.join(ENROLLABLE)}",
            )
        if (name.kind is Kind.NODE) != (scheduler is not None):
            raise BadRequest(
                "a node belongs to a scheduler, and nothing else does", field="scheduler"
            )
        if owner is not None and name.kind is not Kind.NODE:
            raise BadRequest("only a node has an owner", field="owner")
        sshsig.verify(
            enrol_statement(self._url, str(name), nonce), signature, ENROL_NAMESPACE, [key]
        )
        async with in_transaction("portal"):
            found = await EnrolNonce.filter(
                digest=digest(nonce), person_id=person, expires_at__gt=self._clock()
            ).delete()
            if not found:
                raise BadRequest(
                    "the nonce is not in force", field="nonce", hint="ask for a challenge again"
                )
            changes = await self._registry.publish(name, key, by=person, scheduler=scheduler)
            if owner is not None:
                await set_owner_of_node(name, owner)
                about = f"{name}: {owner}"
                await self._audit.record_required("node.owner", who=person, about=about)
        self._registry.announce(changes)
        return fingerprint(key)

    async def enrol_own(
        self, person: str, name: PeerName, key: asyncssh.SSHKey, *, scheduler: str | None = None
    ) -> str:
        """:meth:`enrol` for a peer in this process, whose private key is at hand."""
        nonce = await self.challenge(person)
        proof = sshsig.sign(key, enrol_statement(self._url, str(name), nonce), ENROL_NAMESPACE)
        public = key.convert_to_public()
        return await self.enrol(person, name, public, nonce, proof, scheduler=scheduler)
