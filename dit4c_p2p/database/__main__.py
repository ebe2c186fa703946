"""See :mod:`dit4c_p2p.database.command`."""

import sys

from dit4c_p2p.database.command import main

sys.exit(main())
