"""Bootstrap of a peer: what it learns from the portal at its start, such as the routers' addresses.

The portal's identity comes from the peer's own file: an answer that names another key is refused.
The answer is kept on disk, so that a peer can start while the portal is down.
"""

import asyncio
import logging
from pathlib import Path

import msgspec

from dit4c_p2p.atomic_file import NotWritten, write_whole
from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.errors import PortalUnreachable
from dit4c_p2p.identity.installation import fetch_public_config, read_public_config
from dit4c_p2p.identity.keys import fingerprint, parse_public
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.public import PortalInfo, PublicConfig
from dit4c_p2p.settings.shared import PortalReference

_log = logging.getLogger(__name__)

_PATH = "/config.json"
_COPY = "installation.json"
_MAX_BYTES = 256 * 1024
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_SAY_AGAIN_S = 60.0


class WrongPortal(DitError):
    """The server at the portal's URL is not the portal of this peer's file."""

    code = "wrong_portal"


async def learn_portal(
    reference: PortalReference, data_folder: Path
) -> tuple[PortalInfo, PublicConfig]:
    """Return the portal as this peer reaches it, and its public configuration.

    Wait for the portal, and report that, unless a copy of an earlier answer exists.

    :raises WrongPortal: another portal answers, or the copy is of another.
    """
    copy = data_folder / _COPY
    own = PortalInfo(name="", url=reference.url, key=reference.key, connect=list(reference.connect))
    loop = asyncio.get_running_loop()
    backoff, said = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), float("-inf")
    async with PortalClient(own, ca=reference.ca) as client:
        while True:
            try:
                public = await fetch_public_config(client)
            except PortalUnreachable as error:
                kept = _read_config_copy(copy, reference)
                if kept is not None:
                    _log.warning("%s: going on with what it said before", error)
                    public = kept
                    break
                if loop.time() - said > _SAY_AGAIN_S:
                    said = loop.time()
                    _log.warning("%s: waiting for it", error)
                await asyncio.sleep(backoff.pause_s())
                continue
            _check_portal(public, reference)
            _keep_config_copy(copy, public)
            break
    _log.info("the portal is %s at %s", public.portal.name, public.portal.url)
    return msgspec.structs.replace(own, name=public.portal.name), public


def _check_portal(public: PublicConfig, reference: PortalReference) -> None:
    """:raises WrongPortal: it is not the one of the peer's file."""
    said, pinned = parse_public(public.portal.key), parse_public(reference.key)
    if said.public_data != pinned.public_data:
        raise WrongPortal(
            f"the portal at {reference.url} has the key {fingerprint(said)}, "
            f"and portal.key says {fingerprint(pinned)}",
            hint="if its admin says that the new key is right, put it into the file",
        )
    if public.portal.url != reference.url:
        raise WrongPortal(
            f"the portal calls itself {public.portal.url}, and portal.url says {reference.url}",
            hint="write portal.url as the portal does",
        )


def _read_config_copy(copy: Path, reference: PortalReference) -> PublicConfig | None:
    """Return the earlier answer of the same portal, if a copy exists."""
    try:
        public = read_public_config(copy.read_bytes())
        _check_portal(public, reference)
    except FileNotFoundError:
        return None
    except (OSError, DitError) as error:
        _log.info("%s can't be used: %s", copy, error)
        return None
    return public


def _keep_config_copy(copy: Path, public: PublicConfig) -> None:
    try:
        write_whole(copy, encode(public))
    except NotWritten as error:
        _log.warning("the copy of the portal's config.json can't be stored: %s", error.one_line())
