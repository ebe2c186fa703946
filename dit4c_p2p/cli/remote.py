"""A user's commands: log in to a portal, and work with one's own instances from a terminal."""

import argparse
from typing import TYPE_CHECKING

from dit4c_p2p.cli.arguments import add_output_option, number_argument

if TYPE_CHECKING:
    from dit4c_p2p.cli.arguments import Commands

EXIT_CODES = """exit codes:
  0  done
  1  something else went wrong
  2  the command line can't be understood
  3  not logged in, or not allowed
  4  no such instance or tool, or several of the name
  5  not possible now: its state or a limit is against it
  6  the portal does not answer
"""
_INSTANCE = "its id, or its name if no other has it"


def add_user_commands(commands: "Commands") -> None:
    """Add a user's commands: ``dit4c login``, ``list``, ``start`` and more."""
    _add_completion_command(commands)
    _add_login_commands(commands)
    _add_reading_user_commands(commands)
    _add_changing_user_commands(commands)


def _add_login_commands(commands: "Commands") -> None:
    login = _add_user_command(
        commands,
        "login",
        "log in to a portal",
        "Logs this terminal in to a portal: shows a code, which you confirm in a browser where you "
        "are logged in. What it may do is see, start, stop and discard your instances. The token "
        "is kept in ~/.config/dit4c/credentials.json, which only you can read.",
    )
    login.add_argument("url", metavar="PORTAL", nargs="?", help="its URL; the last one if left out")
    login.add_argument("--no-browser", action="store_true", help="don't open a browser here")
    login.set_defaults(run=_run_login_command)
    logout = _add_user_command(
        commands,
        "logout",
        "log out of a portal",
        "Ends this terminal's token at the portal, and forgets it.",
    )
    _add_user_portal_options(logout)
    logout.set_defaults(run=_run_logout_command)


def _add_reading_user_commands(commands: "Commands") -> None:
    whoami = _add_user_command(
        commands, "whoami", "say who is logged in", "Says who you are at the portal."
    )
    _set_client_action(whoami, "show_whoami")
    tools = _add_user_command(
        commands, "tools", "list what can be started", "Lists the tools that you can start."
    )
    _set_client_action(tools, "show_tools")
    instances = _add_user_command(
        commands, "list", "list your instances", "Lists your instances, the newest first."
    )
    instances.add_argument("--all", action="store_true", help="discarded ones too")
    _set_client_action(instances, "list_instances")
    show = _add_user_command(
        commands, "show", "show an instance", "Shows all there is to know of an instance."
    )
    show.add_argument("instance", metavar="INSTANCE", help=_INSTANCE)
    _set_client_action(show, "show_instance")
    opening = _add_user_command(
        commands,
        "open",
        "open an instance in a browser",
        "Prints an instance's address, and opens it in this machine's browser if there is one.",
    )
    opening.add_argument("instance", metavar="INSTANCE", help=_INSTANCE)
    opening.add_argument("--no-browser", action="store_true", help="print the address only")
    _set_client_action(opening, "open_instance")
    logs = _add_user_command(
        commands,
        "logs",
        "show an instance's log",
        "Prints the newest lines of what an instance's app has written.",
    )
    logs.add_argument("instance", metavar="INSTANCE", help=_INSTANCE)
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on with what comes, until it has ended"
    )
    logs.add_argument(
        "-n",
        "--lines",
        type=number_argument(1, 2000),
        default=200,
        metavar="N",
        help="how many (200; 2000 at most)",
    )
    _set_client_action(logs, "show_logs")


def _add_changing_user_commands(commands: "Commands") -> None:
    start = _add_user_command(
        commands,
        "start",
        "start a tool, or an instance again",
        "Starts a tool as a new instance, and waits until it can be opened. The name of an "
        "instance that is stopped starts that again, with its files.",
    )
    start.add_argument(
        "what", metavar="TOOL|INSTANCE", help="a tool as 'tools' lists it, or a stopped instance"
    )
    start.add_argument("--name", default="", metavar="NAME", help="what to call the instance")
    start.add_argument("--machine", default="", metavar="ID", help="where a new one is to run")
    start.add_argument("--no-wait", action="store_true", help="return at once")
    start.add_argument("--open", action="store_true", help="open it in a browser in the end")
    _set_client_action(start, "start_instance")
    stop = _add_user_command(
        commands,
        "stop",
        "stop instances",
        "Stops instances; their files are kept, and 'start' starts them again.",
    )
    stop.add_argument("instances", metavar="INSTANCE", nargs="+", help=_INSTANCE)
    _set_client_action(stop, "stop_instances")
    discard = _add_user_command(
        commands,
        "discard",
        "remove instances and all that is in them",
        "Removes instances with everything in them. This can't be undone, so it asks.",
    )
    discard.add_argument("instances", metavar="INSTANCE", nargs="+", help=_INSTANCE)
    discard.add_argument("-y", "--yes", action="store_true", help="don't ask")
    _set_client_action(discard, "discard_instances")
    rename = _add_user_command(
        commands, "rename", "rename an instance", "Gives an instance another name."
    )
    rename.add_argument("instance", metavar="INSTANCE", help=_INSTANCE)
    rename.add_argument("name", metavar="NAME", help="its new name")
    _set_client_action(rename, "rename_instance")


def _add_user_command(
    commands: "Commands", name: str, what: str, description: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=what,
        description=description,
        epilog=EXIT_CODES,
        formatter_class=_CommandHelpFormatter,
    )


class _CommandHelpFormatter(argparse.HelpFormatter):
    """Fills texts, except for the table of exit codes."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text == EXIT_CODES:
            return text
        return super()._fill_text(text, width, indent)


def _add_user_portal_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--portal",
        metavar="URL",
        help="which portal (DIT4C_PORTAL, or the one logged in to last)",
    )


def _set_client_action(parser: argparse.ArgumentParser, action: str) -> None:
    """Have a command carry out a function of ``client.commands``."""
    _add_user_portal_options(parser)
    add_output_option(parser)
    parser.set_defaults(run=lambda options: _run_user_command(options, action))


def _run_user_command(options: argparse.Namespace, action: str) -> int:
    import asyncio

    from dit4c_p2p.client import commands
    from dit4c_p2p.client.session import remote_portal

    async def run() -> None:
        async with remote_portal(options.portal, options.output) as portal:
            await getattr(commands, action)(options, portal)

    asyncio.run(run())
    return 0


def _add_completion_command(commands: "Commands") -> None:
    completion = commands.add_parser(
        "completion",
        help="print what completes commands in a shell",
        description="Prints a script that has your shell complete dit4c's commands and options. "
        "bash: dit4c completion bash > ~/.local/share/bash-completion/completions/dit4c. "
        "zsh: put it into a folder of your fpath, as _dit4c.",
    )
    completion.add_argument("shell", choices=("bash", "zsh"), help="which shell")
    completion.set_defaults(run=_run_completion_command)


def _run_completion_command(options: argparse.Namespace) -> int:
    import shtab

    from dit4c_p2p.cli import make_parser

    print(shtab.complete(make_parser(), options.shell))
    return 0


def _run_login_command(options: argparse.Namespace) -> int:
    import asyncio

    from dit4c_p2p.client.session import log_in_to_portal

    asyncio.run(log_in_to_portal(options.url, browser=not options.no_browser))
    return 0


def _run_logout_command(options: argparse.Namespace) -> int:
    import asyncio

    from dit4c_p2p.client.session import log_out_of_portal

    asyncio.run(log_out_of_portal(options.portal))
    return 0
