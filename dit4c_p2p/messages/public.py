"""``GET /config.json``: what anyone may know about an installation.

``url`` is canonical: issuers, audiences, cookies and links are made of it. ``connect`` lists the
``host:port`` pairs to open a connection to instead; an empty list means the URL's own.
"""

from dit4c_p2p.messages.codec import Record


class PortalInfo(Record, frozen=True):
    """The portal: its peer name, canonical URL, and its public key as an OpenSSH line."""

    name: str
    url: str
    key: str
    connect: list[str] = []


class RouterInfo(Record, frozen=True):
    """A routing server. ``ssh`` and ``http`` are ``host:port`` pairs to connect to."""

    name: str
    ssh: list[str]
    http: list[str]


class FileServerInfo(Record, frozen=True):
    """A file server: SFTP over SSH. ``url`` is canonical, such as
    ``sftp://files.example.org:2222``.

    ``connect`` lists the ``host:port`` pairs to connect to instead; an empty list means the URL's
    own.
    """

    name: str
    url: str
    connect: list[str] = []


class ImageServerInfo(Record, frozen=True):
    """An image server: the OCI Distribution API below ``url``, such as
    ``https://images.example.org``, which has no closing slash and may have a path.

    ``connect`` as above.
    """

    name: str
    url: str
    connect: list[str] = []


class PublicConfig(Record, frozen=True):
    """Everything a peer needs to find the others.

    ``user_url`` is the canonical URL of an instance with ``{id}`` in the place of its id, such as
    ``http://{id}.localhost:8081/``. The first file server is the home of new people and groups.
    Images are saved at the first image server.
    """

    portal: PortalInfo
    routers: list[RouterInfo]
    user_url: str
    fileservers: list[FileServerInfo] = []
    imageservers: list[ImageServerInfo] = []
