"""``python3 -m dit4c_p2p.helpers.storage``: the storage helper.

With the argument ``mount`` or ``unmount`` it is the mount container's program, see ``mounter``.
"""

import sys


def main(arguments: list[str]) -> int:
    """Run the program that is asked for; returns the exit status."""
    match arguments:
        case []:
            from dit4c_p2p.helpers import main as program
            from dit4c_p2p.helpers.storage.helper import STOP_LIMIT_S, serve_pod

            return program.run(serve_pod, stop_limit_s=STOP_LIMIT_S)
        case ["mount"]:
            from dit4c_p2p.helpers.storage import mounter

            return mounter.mount_files()
        case ["unmount"]:
            from dit4c_p2p.helpers.storage import mounter

            return mounter.unmount_files()
    print("usage: python3 -m dit4c_p2p.helpers.storage [mount|unmount]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
