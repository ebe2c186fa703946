"""JupyterLab inside a pod: the auth helper lets in one person and nobody else."""

import contextlib
import json
import os
from pathlib import Path

c = get_config()  # noqa: F821 - given by Jupyter when it reads this file

c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/home/jovyan"

# No login of its own; the names it is called by are the router's business.
c.IdentityProvider.token = ""
c.PasswordIdentityProvider.password_required = False
c.ServerApp.allow_remote_access = True
c.ServerApp.trust_xheaders = True

# Ending the instance is done from the portal.
c.ServerApp.quit_button = False

# Nothing is fetched from outside unless its user asks for it.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.LabApp.default_url = "/lab"
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash"]}

# The pod says how its user calls this instance, and where the way back leads.
instance_name = os.environ.get("DIT4C_INSTANCE_NAME", "")
portal_url = os.environ.get("DIT4C_PORTAL_URL", "")


def with_name(_handler, page_config):
    """Return the page's settings with the instance's name, which becomes the tab's title."""
    return {**page_config, "appName": instance_name}


if instance_name:
    c.ServerApp.tornado_settings = {"page_config_hook": with_name}


def show_way_back():
    """Put a link to the portal at the right of JupyterLab's top bar."""
    overrides = Path("/opt/jupyter/share/jupyter/lab/settings/overrides.d/dit4c.json")
    overrides.unlink(missing_ok=True)
    if not portal_url:
        return
    link = {
        "name": "dit4c-instances",
        "command": "help:open",
        "args": {"url": portal_url, "text": "Instances", "newBrowserTab": True},
        "label": f"{instance_name} · Instances ↗" if instance_name else "Instances ↗",
        "caption": "Your instances, in a tab of their own",
        "rank": 90,
    }
    overrides.parent.mkdir(exist_ok=True)
    overrides.write_text(
        json.dumps({"@jupyterlab/application-extension:top-bar": {"toolbar": [link]}})
    )


# On a disk that is full JupyterLab starts as well, without the link.
with contextlib.suppress(OSError):
    show_way_back()
