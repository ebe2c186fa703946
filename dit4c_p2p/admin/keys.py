"""Key administration through the portal's API: ask for a nonce, submit a proof, publish a key."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncssh

from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.errors import InvalidKey
from dit4c_p2p.identity.keys import check_key_acceptable, parse_public, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.enrol import ENROL_NAMESPACE, NewKey, enrol_statement
from dit4c_p2p.messages.public import PortalInfo

_SIGN_TIMEOUT_S = 60


class EnrolRefused(DitError):
    """The portal refuses to publish the key, for the reason in its message."""

    code = "enrol_refused"


def read_admin_access(
    portal: str | None, data_folder: Path, environ: Mapping[str, str]
) -> tuple[str, str]:
    """Return the portal's URL and an admin's API token: as given, or those of a running ``dit4c
    up``.

    The token of a running ``dit4c up`` is never sent to another portal.

    :raises ConfigError: none is given and no ``dit4c up`` runs.
    """
    token = environ.get("DIT4C_TOKEN")
    if portal and token:
        return portal.rstrip("/"), token
    ready = data_folder / "ready.json"
    try:
        access = json.loads(ready.read_bytes())
        running, its_token = str(access["portal"]), str(access["api_token"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"no running portal is known: {ready} can't be read",
            hint="start 'dit4c up', or give --portal URL and the token in DIT4C_TOKEN",
        ) from None
    if portal and portal.rstrip("/") != running:
        raise ConfigError(
            f"there is no token for {portal}", hint="put an admin's of that portal into DIT4C_TOKEN"
        )
    return running, token or its_token


class KeyAdminClient:
    """Client of the portal's key API, with an admin's token; used as ``async with``.

    :param connect: ``host:port`` pairs to connect to instead of the URL's own.
    :raises ConfigError: the token would cross a network unprotected.
    """

    def __init__(self, url: str, token: str, *, connect: Sequence[str] = ()) -> None:
        self.url = url
        self._client = PortalClient(PortalInfo(name="", url=url, key="", connect=list(connect)))
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(*error)

    async def challenge(self) -> tuple[str, float]:
        """Return a nonce to be signed, and its lifetime in seconds.

        :raises EnrolRefused: the portal says no, or does not answer.
        """
        answer = await self._post("/api/v1/keys/challenge", b"{}")
        return str(answer["nonce"]), float(answer["expires_in"])

    async def publish(self, new_key: NewKey) -> str:
        """Publish a key; return its fingerprint.

        :raises EnrolRefused: the portal says no, or does not answer.
        """
        return str((await self._post("/api/v1/keys", encode(new_key)))["fingerprint"])

    async def enrol(
        self, name: PeerName, file: Path, scheduler: str | None, owner: str | None = None
    ) -> str:
        """Publish the key in ``file`` for a peer; return its fingerprint.

        :raises ConfigError: the file is no key, or its private half is not available.
        :raises EnrolRefused: the portal says no, or does not answer.
        """
        key = _read_private_ssh_key(file)
        public = _read_public_ssh_key(file) if key is None else key.convert_to_public()
        nonce, _ = await self.challenge()
        statement = enrol_statement(self.url, str(name), nonce)
        return await self.publish(
            NewKey(
                kind=name.kind.value,
                id=name.id,
                public_key=public_line(public),
                nonce=nonce,
                signature=sshsig.sign(key, statement, ENROL_NAMESPACE)
                if key is not None
                else await _sign_by_agent(file, statement),
                scheduler=scheduler,
                owner=owner,
            )
        )

    async def _post(self, path: str, body: bytes) -> dict[str, Any]:
        try:
            async with self._client.session.post(
                self._client.url(path), data=body, headers=self._headers, allow_redirects=False
            ) as response:
                answer = await response.json(content_type=None)
                if response.status == 201:
                    return dict(answer)
                text = answer.get("detail") or answer.get("title") or f"status {response.status}"
                raise EnrolRefused(f"the portal says: {text}", hint=answer.get("hint", ""))
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
            raise EnrolRefused(
                f"the portal does not answer as one: {error or 'time is up'}",
                hint="check its URL and that it runs",
            ) from None


def _read_private_ssh_key(file: Path) -> asyncssh.SSHKey | None:
    """Return the private key in a file; None if the file holds something else."""
    try:
        return check_key_acceptable(asyncssh.read_private_key(file))
    except OSError as error:
        raise ConfigError(
            f"{file} can't be read: {error.strerror}",
            hint="make a key with: ssh-keygen -t ed25519 -f FILE",
        ) from None
    except asyncssh.KeyEncryptionError:
        raise ConfigError(
            f"{file} is locked with a passphrase",
            hint=f"unlock it with 'ssh-add {file}' and give {file}.pub instead",
        ) from None
    except asyncssh.KeyImportError:
        return None


def _read_public_ssh_key(file: Path) -> asyncssh.SSHKey:
    try:
        return parse_public(file.read_text())
    except (InvalidKey, UnicodeDecodeError):
        raise ConfigError(
            f"{file} holds neither a private nor a public SSH key",
            hint="make a key with: ssh-keygen -t ed25519 -f FILE",
        ) from None


async def _sign_by_agent(public_file: Path, statement: bytes) -> str:
    """Sign with ``ssh-keygen``, which looks beside the public key and in ssh-agent."""
    process = await asyncio.create_subprocess_exec(
        "ssh-keygen",
        *("-Y", "sign", "-n", ENROL_NAMESPACE, "-f", str(public_file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SIGN_TIMEOUT_S):
            signature, problem = await process.communicate(statement)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ConfigError("ssh-agent did not sign in time", hint="try again") from None
    if process.returncode:
        last = problem.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ConfigError(
            f"nothing can sign with {public_file}: {last[-1]}",
            hint="give the private key's file, or add it to ssh-agent",
        )
    return signature.decode()
