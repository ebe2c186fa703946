"""axe-core in pages of Chromium: npm's axe-core, installed once for all runs."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

VERSION = "4.11.0"
_INSTALL_S = 300
# Everything that axe knows but what is about drafts of the standards.
_RUN = """async () => {
  const found = await axe.run(document, {
    resultTypes: ["violations"],
    rules: { "color-contrast-enhanced": { enabled: false } },
  });
  return found.violations.map((one) => ({
    id: one.id, impact: one.impact, nodes: one.nodes.map((node) => node.html.slice(0, 200)),
  }));
}"""


def source() -> Path:
    """Return the script, installed if it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit4c-tests"
    cache.mkdir(parents=True, exist_ok=True)
    done = cache / f"axe-core-{VERSION}"
    with (cache / "axe-core.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            making = cache / "axe-core.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            (making / "package.json").write_text('{"private": true}')
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(
                [*command, f"axe-core@{VERSION}"],
                cwd=making,
                check=True,
                capture_output=True,
                timeout=_INSTALL_S,
            )
            making.rename(done)
    return done / "node_modules/axe-core/axe.min.js"


async def findings(page: Any) -> list[dict[str, Any]]:
    """Return what axe finds on a page (Playwright's); its script is put past the page's policy."""
    session = await page.context.new_cdp_session(page)
    await session.send("Runtime.evaluate", {"expression": source().read_text()})
    await session.detach()
    found: list[dict[str, Any]] = await page.evaluate(_RUN)
    return found
