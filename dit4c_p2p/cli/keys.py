"""``dit4c key …``: an admin's side of enrolment."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dit4c_p2p.cli.arguments import (
    add_data_dir_option,
    add_portal_config_option,
    read_portal_settings,
)
from dit4c_p2p.errors import ConfigError

if TYPE_CHECKING:
    from dit4c_p2p.admin.keys import KeyAdminClient
    from dit4c_p2p.cli.arguments import Commands

_WHO = (
    "Needs an admin's API token: the one of the running 'dit4c up' (--data-dir), that of --portal "
    "in DIT4C_TOKEN, or on the portal's own machine its file (--config)."
)


def add_key_commands(commands: "Commands") -> None:
    """Add ``dit4c key``."""
    key = commands.add_parser("key", help="manage the keys that the portal publishes")
    actions = key.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_key_add(actions)
    _add_key_challenge(actions)


def _add_key_add(actions: "Commands") -> None:
    add = actions.add_parser(
        "add",
        help="publish a peer's key",
        description="Proves to the portal that the peer KIND-ID has its private key, and publishes "
        "the public half. The private key is in FILE here, or its owner elsewhere has made a proof "
        f"('dit4c key challenge'). {_WHO}",
    )
    _add_key_peer_argument(add)
    add.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        help="the private key, or a .pub whose key ssh-agent has",
    )
    add.add_argument("--proof", metavar="LINE", help="instead of FILE: what the owner has sent")
    add.add_argument(
        "--scheduler", metavar="ID", help="for a node: the scheduler that it belongs to"
    )
    add.add_argument(
        "--owner",
        metavar="PERSON",
        help="for a node: the id of the person who lends it. Instances of other people see their "
        "files there only after they have agreed to it (default: the institution's machine)",
    )
    _add_key_portal_options(add)
    add.set_defaults(run=_run_key_add)


def _add_key_challenge(actions: "Commands") -> None:
    challenge = actions.add_parser(
        "challenge",
        help="get what the owner of a peer elsewhere has to sign",
        description="Prints a nonce. The owner of the peer KIND-ID, whose private key is on their "
        "machine, turns it into a proof ('dit4c KIND prove NONCE') and sends that back, for 'dit4c "
        f"key add KIND ID --proof'. It is good once, and not for long. {_WHO}",
    )
    _add_key_peer_argument(challenge)
    _add_key_portal_options(challenge)
    challenge.set_defaults(run=_run_key_challenge)


def _add_key_peer_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help="scheduler, router, node, …")
    parser.add_argument("id", metavar="ID", help="1 to 40 of a-z, 0-9 and -")


def _add_key_portal_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--portal", metavar="URL", help="the portal's URL")
    parser.add_argument(
        "--as",
        dest="admin",
        default="admin",
        metavar="ID",
        help="with --config: which admin (%(default)s)",
    )
    add_portal_config_option(parser)
    add_data_dir_option(parser)


async def _key_admin_client(options: argparse.Namespace) -> "KeyAdminClient":
    """The portal's calls for keys, with the token that the options lead to."""
    from dit4c_p2p.admin.keys import KeyAdminClient, read_admin_access

    if options.config is not None:
        from dit4c_p2p.admin.local_portal import local_admin_token

        settings = read_portal_settings(options.config)
        token = await local_admin_token(settings, options.admin)
        return KeyAdminClient(settings.url, token, connect=settings.connect)
    url, token = read_admin_access(options.portal, options.data_dir, os.environ)
    return KeyAdminClient(url, token)


def _run_key_add(options: argparse.Namespace) -> int:
    if (options.file is None) == (options.proof is None):
        raise ConfigError("a key is in FILE or proved by --proof LINE", hint="give one of them")
    asyncio.run(_publish_key(options))
    return 0


async def _publish_key(options: argparse.Namespace) -> None:
    from msgspec import structs

    from dit4c_p2p.admin import key_proof
    from dit4c_p2p.identity.names import PeerName

    name = PeerName.of(options.kind, options.id)
    new_key = options.proof and key_proof.decode_key_proof(options.proof, name, options.scheduler)
    async with await _key_admin_client(options) as desk:
        if new_key:
            fingerprint = await desk.publish(structs.replace(new_key, owner=options.owner))
        else:
            fingerprint = await desk.enrol(name, options.file, options.scheduler, options.owner)
    print(f"Published {fingerprint} for {name}.")


def _run_key_challenge(options: argparse.Namespace) -> int:
    asyncio.run(_print_key_challenge(options))
    return 0


async def _print_key_challenge(options: argparse.Namespace) -> None:
    from dit4c_p2p.admin import key_proof
    from dit4c_p2p.identity.names import PeerName

    name = PeerName.of(options.kind, options.id)
    async with await _key_admin_client(options) as desk:
        nonce, lifetime_s = await desk.challenge()
    text = key_proof.write_nonce(nonce)
    print(
        f"Good once, within {lifetime_s / 60:.0f} minutes. On the machine of {name}: "
        f"dit4c {name.kind} prove {text}",
        file=sys.stderr,
    )
    print(text)
