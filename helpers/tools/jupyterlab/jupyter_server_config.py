"""JupyterLab inside a pod: the auth helper lets in one person and nobody else."""

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
