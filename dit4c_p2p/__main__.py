"""``python -m dit4c_p2p`` is ``dit4c``."""

import sys

from dit4c_p2p.cli import main

if __name__ == "__main__":
    sys.exit(main())
