"""``python3 -m dit4c_p2p.helpers.upload push|layers|flat|scan|copy``; see ``messages.upload``."""

import sys

from dit4c_p2p.messages.upload import COPY_MODE, FLAT_MODE, LAYERS_MODE, PUSH_MODE, SCAN_MODE


def main(arguments: list[str]) -> int:
    """Run in one of the modes; each imports only what it needs."""
    match arguments:
        case [mode] if mode in (SCAN_MODE, COPY_MODE):
            from dit4c_p2p.helpers.upload import scanner

            return scanner.scanner_main(mode)
        case [mode] if mode in (PUSH_MODE, LAYERS_MODE, FLAT_MODE):
            from dit4c_p2p.helpers.upload import program

            return program.upload_main(mode)
    print(f"a mode is needed, such as {PUSH_MODE}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
