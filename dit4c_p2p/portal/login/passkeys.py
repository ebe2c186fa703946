"""Passkeys: discoverable WebAuthn credentials (W3C Web Authentication Level 3) of people.

A passkey alone lets its person in, so the authenticator has to verify its user (fingerprint, face,
PIN) each time. The relying party is exactly the portal's host, and the origin exactly its URL. What
is checked of an answer is in sections 7.1 and 7.2 of the specification; the ``webauthn`` library
does it, and this module adds what is the portal's own to decide.
"""

import hashlib
import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, parse_client_data_json
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from yarl import URL

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.names import checked_name
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import BadRequest, Conflict, NotFound, Unauthorized
from dit4c_p2p.portal.login.attempts import LoginAttempt, LoginAttempts
from dit4c_p2p.portal.models import Passkey
from dit4c_p2p.portal.opaque_tokens import digest, public_id

_MAX_PASSKEYS = 20
_ANSWER_MS = 120_000
_CREATE = "passkey create"
_LOG_IN = "passkey log in"
# A credential id has 1023 bytes at most (section 4).
_MAX_ID_CHARS = 1364
_TRANSPORTS = frozenset(transport.value for transport in AuthenticatorTransport)


class UnknownPasskey(Unauthorized):
    """The passkey was removed, or its person was."""

    code = "unknown_passkey"

    def __init__(self) -> None:
        super().__init__(
            "this passkey is not known here any more",
            hint="choose another one, or ask an admin for a login link; your device can forget it",
        )


class PasskeyRefused(BadRequest):
    """What the browser has answered does not verify."""

    code = "passkey_refused"


@dataclass(frozen=True)
class BegunPasskey:
    """What a browser needs to go on: options for its authenticator, and the text of its cookie."""

    options: Mapping[str, Any]
    sealed: str


def relying_party_id(url: str) -> str:
    """Return the relying party's id for a portal at this URL; empty where passkeys can't be.

    Browsers have passkeys on HTTPS and on localhost only, and for names, not for addresses.
    """
    parts = URL(url)
    host = parts.host or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
        return host if parts.scheme == "https" or local else ""
    return ""


class Passkeys:
    """Everybody's passkeys.

    :param url: the portal's canonical URL, an origin.
    """

    def __init__(
        self, url: str, attempts: LoginAttempts, audit: Audit, *, clock: Callable[[], float]
    ) -> None:
        self._origin = url
        self._party = relying_party_id(url)
        self._attempts = attempts
        self._audit = audit
        self._clock = clock

    @property
    def offered(self) -> bool:
        """Whether browsers have passkeys for this portal's URL."""
        return bool(self._party)

    # ---- of a person

    async def of(self, person: str) -> list[Passkey]:
        """A person's passkeys, the newest first."""
        found: list[Passkey] = await Passkey.filter(person_id=person).order_by(
            "-created_at", "digest"
        )
        return found

    async def begin_creation(self, person: str) -> BegunPasskey:
        """Options for a new passkey of a person who is logged in.

        :raises NotFound: this portal's URL can have none.
        :raises Conflict: the person has as many as they may.
        """
        self._check_offered()
        owner, there = await people.get_person(person), await self.of(person)
        _check_passkey_number(there)
        options = webauthn.generate_registration_options(
            rp_id=self._party,
            rp_name=f"DIT4C at {self._party}",
            user_id=_user_handle(person),
            user_name=person,
            user_display_name=owner.name,
            timeout=_ANSWER_MS,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[_passkey_descriptor(passkey) for passkey in there],
        )
        challenge = bytes_to_base64url(options.challenge)
        sealed = self._attempts.begin(_CREATE, challenge=challenge, person=person)
        return BegunPasskey(json.loads(webauthn.options_to_json(options)), sealed)

    async def finish_creation(
        self, person: str, sealed: str, credential: Mapping[str, Any], *, name: str
    ) -> Passkey:
        """Keep the passkey that the browser has made.

        :param name: what its person will know it by.
        :raises AttemptOver: not begun in this browser by this person, or too late.
        :raises PasskeyRefused: the answer does not verify.
        :raises Conflict: it is somebody's already, or there are too many.
        """
        attempt = self._attempts.opened(_CREATE, sealed)
        if attempt.data["person"] != person:
            raise PasskeyRefused("this passkey was begun by somebody else", hint="start again")
        name = checked_name(name, required=True)
        made = self._verified_creation(credential, attempt)
        id = bytes_to_base64url(made.credential_id)
        async with in_transaction("portal"):
            await self._attempts.finish(attempt)
            there = await self.of(person)
            _check_passkey_number(there)
            if len(id) > _MAX_ID_CHARS or await Passkey.exists(digest=digest(id)):
                raise Conflict("this passkey is in use already", hint="log in with it")
            passkey = await Passkey.create(
                digest=digest(id),
                person_id=person,
                credential=id,
                public_key=bytes_to_base64url(made.credential_public_key),
                sign_count=made.sign_count,
                transports=_passkey_transports(credential),
                name=_free_passkey_name(name, {one.name for one in there}),
                created_at=self._clock(),
            )
            await self._audit.record_required("passkey.create", about=_about_passkey(passkey))
        return passkey

    async def rename(self, person: str, id: str, name: str) -> None:
        """Give one of a person's passkeys another name.

        :param id: its :func:`~dit4c_p2p.portal.opaque_tokens.public_id`.
        :raises NotFound: the person has none such.
        :raises BadRequest: not a name.
        """
        passkey = await self._one(person, id)
        await Passkey.filter(digest=passkey.digest).update(name=checked_name(name, required=True))

    async def remove(self, person: str, id: str) -> None:
        """Remove one of a person's passkeys; browsers that it has logged in stay so.

        :raises NotFound: the person has none such.
        """
        passkey = await self._one(person, id)
        await Passkey.filter(digest=passkey.digest).delete()
        await self._audit.record_best_effort("passkey.remove", about=_about_passkey(passkey))

    # ---- logging in

    def begin_login(self) -> BegunPasskey:
        """Options for whoever wants to come in; which passkeys there are is not told.

        :raises NotFound: this portal's URL can have none.
        """
        self._check_offered()
        options = webauthn.generate_authentication_options(
            rp_id=self._party,
            timeout=_ANSWER_MS,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        sealed = self._attempts.begin(_LOG_IN, challenge=bytes_to_base64url(options.challenge))
        return BegunPasskey(json.loads(webauthn.options_to_json(options)), sealed)

    async def finish_login(self, sealed: str, credential: Mapping[str, Any]) -> Passkey:
        """Whose passkey has answered, in the caller's transaction; its ``person`` is fetched.

        :raises AttemptOver: not begun in this browser, too late, or finished before.
        :raises UnknownPasskey: it was removed, or its person was.
        :raises PasskeyRefused: the answer does not verify.
        :raises AccountClosed: the person may not come in any more.
        """
        attempt = self._attempts.opened(_LOG_IN, sealed)
        id = credential.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= _MAX_ID_CHARS:
            raise PasskeyRefused("the answer names no passkey", hint="try again")
        passkey = await Passkey.get_or_none(digest=digest(id)).prefetch_related("person")
        if passkey is None:
            raise UnknownPasskey
        count = self._verified_login(credential, attempt, passkey)
        now = self._clock()
        people.check_account_in_force(passkey.person, now)
        await self._attempts.finish(attempt)
        await Passkey.filter(digest=passkey.digest).update(sign_count=count, used_at=now)
        return passkey

    # ---- inside

    def _check_offered(self) -> None:
        if not self.offered:
            raise NotFound("this portal has no passkeys", hint="they need HTTPS and a host's name")

    async def _one(self, person: str, id: str) -> Passkey:
        for passkey in await self.of(person):
            if public_id(passkey.digest) == id:
                return passkey
        raise NotFound("there is no such passkey")

    def _verified_creation(self, credential: Mapping[str, Any], attempt: LoginAttempt) -> Any:
        try:
            made = webauthn.verify_registration_response(
                credential=dict(credential),
                expected_challenge=base64url_to_bytes(attempt.data["challenge"]),
                expected_rp_id=self._party,
                expected_origin=self._origin,
                require_user_verification=True,
            )
            _check_passkey_not_framed(credential)
        except PasskeyRefused:
            raise
        except Exception as error:  # noqa: BLE001  hostile CBOR makes the parsers raise anything
            raise _refused_passkey(error) from None
        return made

    def _verified_login(
        self, credential: Mapping[str, Any], attempt: LoginAttempt, passkey: Passkey
    ) -> int:
        """The authenticator's new sign count."""
        try:
            answer = webauthn.verify_authentication_response(
                credential=dict(credential),
                expected_challenge=base64url_to_bytes(attempt.data["challenge"]),
                expected_rp_id=self._party,
                expected_origin=self._origin,
                credential_public_key=base64url_to_bytes(passkey.public_key),
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
            _check_passkey_not_framed(credential)
            handle = base64url_to_bytes(credential["response"]["userHandle"])
        except PasskeyRefused:
            raise
        except Exception as error:  # noqa: BLE001  hostile CBOR makes the parsers raise anything
            raise _refused_passkey(error) from None
        if handle != _user_handle(passkey.person_id):
            raise PasskeyRefused("the passkey answers for somebody else", hint="try another one")
        return int(answer.new_sign_count)


def _check_passkey_not_framed(credential: Mapping[str, Any]) -> None:
    """:raises PasskeyRefused: another site has the portal's page in a frame."""
    data = base64url_to_bytes(credential["response"]["clientDataJSON"])
    if parse_client_data_json(data).cross_origin:
        raise PasskeyRefused("the page is inside another site's", hint="open it by itself")


def _refused_passkey(error: Exception) -> PasskeyRefused:
    reason = str(error)
    if "sign count" in reason:
        return PasskeyRefused(
            "this passkey has answered more often than the portal knows of",
            hint="there may be a copy of it: log in another way and remove it on your account page",
        )
    if "verification is required" in reason:
        return PasskeyRefused(
            "the device did not check who you are",
            hint="use one with a fingerprint, a face or a PIN",
        )
    return PasskeyRefused(
        "the browser's answer can't be used",
        hint="start again; if it happens again, use another device or browser",
    )


def _check_passkey_number(there: list[Passkey]) -> None:
    if len(there) >= _MAX_PASSKEYS:
        raise Conflict(f"you have {_MAX_PASSKEYS} passkeys", hint="remove one first")


def _user_handle(person: str) -> bytes:
    """The person for an authenticator, which must not learn who it is (section 14.6.1)."""
    return hashlib.sha256(f"dit4c person\0{person}".encode()).digest()


def _passkey_descriptor(passkey: Passkey) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(
        id=base64url_to_bytes(passkey.credential),
        transports=[AuthenticatorTransport(one) for one in passkey.transports],
    )


def _passkey_transports(credential: Mapping[str, Any]) -> list[str]:
    """The ways to reach the authenticator, as far as they are known ones."""
    said = credential["response"].get("transports")
    known = [one for one in said if isinstance(one, str)] if isinstance(said, list) else []
    return sorted(_TRANSPORTS.intersection(known))


def _free_passkey_name(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free = f"{name[:90]} {number}"
        number += 1
    return free


def _about_passkey(passkey: Passkey) -> str:
    return f"{passkey.person_id} passkey:{public_id(passkey.digest)}"
