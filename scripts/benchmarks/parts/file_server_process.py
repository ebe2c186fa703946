"""``file_server_process.py FILE``: a file server alone, on the loop that it has in production."""

import json
import sys
from pathlib import Path

import uvloop

sys.path.append(str(Path(__file__).parents[3] / "tests"))

from systems.fileserver_process import main

if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text())))
