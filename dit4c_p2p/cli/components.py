"""``dit4c portal|scheduler|router|node|imageserver …``: each component alone, from its own file."""

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, cast

from dit4c_p2p.cli.arguments import add_config_option, read_portal_settings, read_settings
from dit4c_p2p.cli.node_owner import add_node_owner_actions

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands
    from dit4c_p2p.settings import PeerSettings, PortalSettings

# What a sentence calls it: its article and its name.
_NAMES = {
    "portal": "a portal",
    "scheduler": "a scheduler",
    "router": "a router",
    "node": "a node",
    "fileserver": "a file server",
    "imageserver": "an image server",
}
_WHAT = {
    "portal": "where people log in and start instances, and which publishes all keys",
    "scheduler": "owns the life of each instance and tells the nodes what to do",
    "router": "brings visitors to instances, and peers to each other",
    "node": "runs instances on this machine, within what its owner agrees to",
    "fileserver": "serves people's files by SFTP, to their instances and to themselves",
    "imageserver": "keeps the images that people save",
}


def add_component_commands(commands: "Commands") -> None:
    """Add a command for each component."""
    for kind, what in _WHAT.items():
        component = commands.add_parser(
            kind,
            help=f"run {_NAMES[kind]} alone: {what}",
            description=f"{_NAMES[kind].capitalize()} as a process of its own: "
            f"{'' if kind == 'portal' else 'it '}{what}.",
        )
        actions = component.add_subparsers(title="actions", metavar="ACTION", required=True)
        _add_component_run(actions, kind)
        _add_component_key(actions, kind)
        if kind == "portal":
            _add_portal_init(actions)
        else:
            _add_component_prove(actions, kind)
        if kind == "node":
            add_node_owner_actions(actions)


def _add_component_run(actions: "Commands", kind: str) -> None:
    run = actions.add_parser(
        "run",
        help="run it until Ctrl-C or SIGTERM",
        description=f"Runs the {kind} until Ctrl-C or SIGTERM, and writes its log to standard "
        "error. What it needs of others is waited for, so the components may be started in any "
        "order. 'dit4c config example' prints a file to begin with.",
    )
    add_config_option(run, kind)
    run.set_defaults(run=_run_component, kind=kind)


def _add_component_key(actions: "Commands", kind: str) -> None:
    key = actions.add_parser(
        "key",
        help="print its public key",
        description=f"Prints the {kind}'s public key as a line, and its fingerprint to standard "
        "error. Makes the key if there is none yet; run it as the user that the component runs as.",
    )
    add_config_option(key, kind)
    key.set_defaults(run=_run_component_key, kind=kind)


def _add_component_prove(actions: "Commands", kind: str) -> None:
    prove = actions.add_parser(
        "prove",
        help="prove to the portal's admin that it has its key",
        description="Prints one line for the portal's admin, who hands it to 'dit4c key add "
        "--proof'. The private key stays here; the line holds nothing secret.",
    )
    prove.add_argument(
        "nonce", metavar="NONCE", help="what 'dit4c key challenge' has printed for the admin"
    )
    add_config_option(prove, kind)
    prove.set_defaults(run=_run_component_prove, kind=kind)


def _add_portal_init(actions: "Commands") -> None:
    init = actions.add_parser(
        "init",
        help="make its key, its database and the first admin",
        description="Makes the portal's key and database and an admin's account if they are not "
        "there yet, and prints a link that logs the admin in once, within 24 hours. Run it as the "
        "user that the portal runs as.",
    )
    init.add_argument(
        "--admin", default="admin", metavar="ID", help="the admin's id (default: %(default)s)"
    )
    add_config_option(init, "portal")
    init.set_defaults(run=_run_portal_init)


def _run_component(options: argparse.Namespace) -> int:
    import uvloop

    from dit4c_p2p.run.component import run_component

    uvloop.run(run_component(read_settings(options.kind, options.config)))
    return 0


def _run_component_key(options: argparse.Namespace) -> int:
    from dit4c_p2p.identity.keys import fingerprint, load_or_create, public_line

    settings = cast("PortalSettings | PeerSettings", read_settings(options.kind, options.config))
    key = load_or_create(settings.key_path)
    print(public_line(key, str(settings.name)))
    print(f"fingerprint {fingerprint(key)}", file=sys.stderr)
    return 0


def _run_component_prove(options: argparse.Namespace) -> int:
    from dit4c_p2p.admin import key_proof
    from dit4c_p2p.identity.keys import fingerprint, load_or_create

    nonce = key_proof.read_nonce(options.nonce)
    settings = cast("PeerSettings", read_settings(options.kind, options.config))
    key = load_or_create(settings.key_path)
    new_key = key_proof.signed_key_proof(
        key, settings.name, settings.portal.url, nonce, settings.scheduler_served
    )
    print(key_proof.encode_key_proof(new_key))
    print(f"fingerprint {fingerprint(key)}", file=sys.stderr)
    return 0


def _run_portal_init(options: argparse.Namespace) -> int:
    from dit4c_p2p.admin.local_portal import first_admin_login_link

    settings = read_portal_settings(options.config)
    link = asyncio.run(first_admin_login_link(settings, options.admin))
    print(f"Log {options.admin} in here once, within 24 hours of now, when the portal runs:",
          file=sys.stderr)  # fmt: skip
    print(link)
    return 0
