"""The image server: a registry (OCI Distribution API 1.1) with a chunk exchange beside it.

- ``app``        the server as one thing that starts and stops
- ``config``     its settings
- ``access``     asks the portal who may
- ``routing``    from a request's path to what is asked
- ``http_api``   the Distribution API; ``http_chunks`` the chunk exchange; ``http_errors`` refusals
- ``store``      what it keeps, in one place:
  ``index`` (SQLite), ``files`` (blobs as files), ``uploads``, ``packs`` (chunks in files),
  ``blobs``, ``chunks``, ``manifests``, ``garbage``
- ``metrics``    its figures
"""
