"""The file server: people's files by SFTP, to their instances and to themselves.

    server = FileServer(FileServerConfig(...))
    await server.start()      # server.port
    await server.wait()
    await server.stop()

What decides is apart from what talks:

- ``leases``      who may count on what staying as it is (pure)
- ``ordering``, ``claims``   which requests of a session may run at once (pure)
- ``layout``      what a session sees: paths to folders of trees
- ``quota``       how much a tree holds

What blocks, and runs in worker threads:

- ``syscalls``, ``places``   paths, resolved by the kernel beneath their folder
- ``files``       operations (``attributes``, ``open_files``, ``names``)
- ``stock``, ``compounds``   requests of stock clients, and of the storage helper

What runs on the loop:

- ``sftp_server``   one session; ``ssh_server``, its connection
- ``sessions``, ``grants``   who is here, and what the portal lets them see
"""

from dit4c_p2p.fileserver.app import FileServer
from dit4c_p2p.fileserver.config import FileServerConfig, Limits

__all__ = ["FileServer", "FileServerConfig", "Limits"]
