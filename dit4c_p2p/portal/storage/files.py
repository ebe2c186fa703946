"""How people reach a file server from their own machines. Pure."""

from yarl import URL

from dit4c_p2p.messages.public import FileServerInfo

_SSH_PORT = 22


def sftp_command(server: FileServerInfo, person: str) -> str:
    """The line that a person types to reach their files: ``sftp -P 2222 user-ada@host``."""
    url = URL(server.url)
    port = url.explicit_port
    option = f"-P {port} " if port not in (None, _SSH_PORT) else ""
    return f"sftp {option}user-{person}@{url.host}"
