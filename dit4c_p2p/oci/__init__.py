"""OCI images: how they are called, archived, checked, cut and exchanged; knows no component.

- ``reference``  how an image is called where one is asked for
- ``archive``    image archives, written entry by entry
- ``digests``    content digests (``sha256:…``)
- ``names``      repositories, tags, and the two kinds of repositories of this system
- ``manifest``   manifests, indexes and descriptors, read and checked against the limits
- ``chunks``     content-defined cutting, chunks and lists of chunks
- ``exchange``   the messages of the chunk exchange: which are missing, here they are, put together

The chunk exchange is stated in ``docs/image-server.md``.
"""
