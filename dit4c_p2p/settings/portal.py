"""The settings of a portal."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.public import FileServerInfo, ImageServerInfo, RouterInfo
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, sections, setting
from dit4c_p2p.settings.edge import ProxySettings, TlsSettings, listening_settings_problems
from dit4c_p2p.settings.login import AllowEntry, LoginSettings, ProviderEntry, login_config
from dit4c_p2p.settings.shared import (
    Listening,
    LogSettings,
    ObserveSettings,
    ports_given_twice,
)

if TYPE_CHECKING:
    from dit4c_p2p.portal import CatalogueImage, PortalConfig
    from dit4c_p2p.portal.config import KnownImageServer

HOUR_S = 3600


@dataclass(frozen=True, kw_only=True)
class RouterEntry(Settings):
    """A routing server as everybody reaches it."""

    id: str = setting(values.peer_id, "Its id, as its own file says it.", example="r1")
    ssh: tuple[str, ...] = setting(
        values.list_of(values.near),
        "Where peers connect to it by SSH.",
        example=("router.example.org:8022",),
    )
    http: tuple[str, ...] = setting(
        values.list_of(values.near),
        "Where visitors connect to it, and instances to see whether they can be reached.",
        example=("router.example.org:443",),
    )

    @property
    def info(self) -> RouterInfo:
        """As it is published."""
        name = str(PeerName(Kind.ROUTER, self.id))
        return RouterInfo(name=name, ssh=list(self.ssh), http=list(self.http))


@dataclass(frozen=True, kw_only=True)
class FileServerEntry(Settings):
    """A file server as everybody reaches it."""

    id: str = setting(values.peer_id, "Its id, as its own file says it.", example="main")
    url: str = setting(
        values.sftp_url,
        "Where people reach it with sftp, sshfs or rclone.",
        example="sftp://files.example.org:2222",
    )
    connect: tuple[str, ...] = setting(
        values.list_of(values.near),
        "Addresses that the portal and instances connect to instead of the URL's own; rarely "
        "needed.",
        default=(),
        example=("192.0.2.10:2222",),
    )

    @property
    def info(self) -> FileServerInfo:
        """As it is published."""
        name = str(PeerName(Kind.FILESERVER, self.id))
        return FileServerInfo(name=name, url=self.url, connect=list(self.connect))


@dataclass(frozen=True, kw_only=True)
class ImageServerEntry(Settings):
    """An image server as everybody reaches it."""

    id: str = setting(values.peer_id, "Its id, as its own file says it.", example="main")
    url: str = setting(
        values.service_url,
        "Its URL, exactly as its own file says it.",
        example="https://images.example.org",
    )
    connect: tuple[str, ...] = setting(
        values.list_of(values.near),
        "Addresses that nodes and instances connect to instead of the URL's own; rarely needed.",
        default=(),
        example=("192.0.2.10:443",),
    )
    token_sha256: str = setting(
        values.sha256,
        "Only where a stock registry is used in its place: the SHA-256, in hexadecimal, of the "
        "token by which the proxy in front of that proves itself.",
        default="",
        example="0" * 64,
    )

    @property
    def known(self) -> "KnownImageServer":
        """As the portal is told."""
        from dit4c_p2p.portal.config import KnownImageServer

        name = str(PeerName(Kind.IMAGESERVER, self.id))
        info = ImageServerInfo(name=name, url=self.url, connect=list(self.connect))
        return KnownImageServer(info, self.token_sha256)


@dataclass(frozen=True, kw_only=True)
class ToolEntry(Settings):
    """Something that people can start."""

    name: str = setting(
        values.peer_id, "A word for programs; it never changes.", example="jupyterlab"
    )
    title: str = setting(values.text, "What people read.", example="JupyterLab")
    description: str = setting(
        values.text,
        "A sentence on what it is for.",
        default="",
        example="Notebooks, a terminal and an editor in the browser.",
    )
    icon: str = setting(values.text, "One or two letters.", default="", example="J")
    image: str = setting(
        values.image,
        "Its image by digest: sha256:…, which every node has to have ('dit4c images build' prints "
        "it), or registry.example.org/name@sha256:…, which nodes fetch.",
        example=f"sha256:{'0' * 64}",
    )

    @property
    def image_entry(self) -> "CatalogueImage":
        """As the portal is told."""
        from dit4c_p2p.portal import CatalogueImage

        return CatalogueImage(self.name, self.title, self.description, self.image, self.icon)


@dataclass(frozen=True, kw_only=True)
class PortalLimits(Settings):
    """How much and how long."""

    instances_per_person: int = setting(
        values.integer(1, 10_000), "Instances that one person may have.", default=10
    )
    instances_at_once_per_person: int = setting(
        values.integer(1, 10_000),
        "Those of them that may run at one time, or be on their way to it. Where machines have few "
        "places, one person should not be able to take them all.",
        default=5,
    )
    starts_per_minute_per_person: int = setting(
        values.integer(1, 10_000),
        "How often one person may start an instance, or start one again, within a minute.",
        default=20,
    )
    login_link_s: int = setting(
        values.whole_seconds,
        "How long a login link is good for.",
        default=24 * HOUR_S,
        name="login_link",
    )
    session_idle_s: int = setting(
        values.whole_seconds,
        "A login ends after so long without a request.",
        default=30 * 24 * HOUR_S,
        name="session_idle",
    )
    session_s: int = setting(
        values.whole_seconds,
        "A login ends after so long in any case.",
        default=180 * 24 * HOUR_S,
        name="session",
    )
    access_token_s: int = setting(
        values.whole_seconds,
        "How long an instance lets its user in after one login.",
        default=12 * HOUR_S,
        name="access_token",
    )
    enrol_nonce_s: int = setting(
        values.whole_seconds,
        "For the owner of a new peer to answer a challenge ('dit4c key challenge').",
        default=HOUR_S,
        name="enrolment",
    )
    logs_s: float = setting(
        values.duration, "For a node to send an instance's log.", default=10.0, name="logs"
    )
    event_streams: int = setting(
        values.integer(16, 65536), "Pages that are kept up to date at one time.", default=512
    )
    event_streams_per_person: int = setting(
        values.integer(1, 1024), "The same for one person.", default=16
    )
    connections: int = setting(
        values.integer(16, 1_000_000), "Connections at one time.", default=4096
    )
    connections_per_address: int = setting(
        values.integer(1, 1_000_000),
        "The same from one address. Many people may come from one, and so do all the instances of "
        "a machine.",
        default=512,
    )
    head_s: float = setting(
        values.duration, "For a request's head to arrive.", default=10.0, name="head"
    )
    stalled_s: float = setting(
        values.duration,
        "A visitor that takes no byte for so long is cut.",
        default=60.0,
        name="stalled",
    )
    saved_bytes_per_person: int | None = setting(
        values.size,
        "What one person's saved instances may take, counting what is new in each.",
        default=50 * 1024**3,
        name="saved_per_person",
    )
    checkpoint_minutes: int = setting(
        values.integer(0, 7 * 24 * 60),
        "How often the files of each running instance are saved, in minutes, unless its person "
        "says otherwise. 0 is never.",
        default=0,
    )
    person_quota_bytes: int | None = setting(
        values.size,
        "How much the files of one person may take at a file server. Admins may choose another "
        "quota for a person.",
        default=50 * 1024**3,
        name="person_quota",
    )
    group_quota_bytes: int | None = setting(
        values.size,
        "The same for the files of one group.",
        default=200 * 1024**3,
        name="group_quota",
    )
    instance_files_s: float = setting(
        values.duration,
        "How long the files in /mnt/instance are kept after their instance was discarded.",
        default=30 * 24 * HOUR_S,
        name="instance_files",
    )
    # Not settable: an OAuth code's life; for a TLS handshake; for a request's body in all, and
    # without a byte of it.
    code_s: int = 60
    handshake_s: float = 10.0
    body_s: float = 30.0
    body_silence_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class PortalSettings(Settings):
    """A portal: people log in and start instances there, and it publishes everybody's keys."""

    KIND = Kind.PORTAL

    id: str = setting(values.peer_id, "Its id; its name is portal-ID.", default="main")
    url: str = setting(
        values.origin,
        "Its URL, as everybody sees it, without a path or a closing slash. It can't be changed "
        "later without enrolling every peer again.",
        example="https://portal.example.org",
    )
    listen: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens by plain HTTP: on this machine, or for a proxy that speaks HTTPS to "
        "everybody else. Only what is named here is listened on.",
        default=(),
        example=(("127.0.0.1", 8080),),
    )
    listen_tls: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens by HTTPS, with the certificate in [tls].",
        default=(),
        example=(("0.0.0.0", 443), ("::", 443)),
        shown=True,
    )
    redirect: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens by plain HTTP only to send everybody to HTTPS.",
        default=(),
        example=(("0.0.0.0", 80), ("::", 80)),
        shown=True,
    )
    connect: tuple[str, ...] = setting(
        values.list_of(values.near),
        "Addresses that peers and instances connect to instead of the URL's own; rarely needed.",
        default=(),
        example=("192.0.2.10:443",),
    )
    user_url: str = setting(
        values.user_url,
        "The URL of an instance, with {id} for its id. Its domain should not be the portal's, nor "
        "have the same parent.",
        example="https://{id}.example.net/",
    )
    scheduler: str = setting(
        values.peer_id, "The id of the scheduler that new instances are given to.", default="main"
    )
    data_folder: Path = setting(
        values.path,
        "Where it keeps its private key ('key', made at the first start) and its database.",
        default=Path("/var/lib/dit4c-portal"),
    )
    tool_pictures: Path = setting(
        values.path,
        "A folder with pictures of tools, read at the start: NAME.png or NAME.webp for the tool of "
        "that name, 64 KiB at most.",
        default=Path(),
        example=Path("/etc/dit4c/tools"),
    )
    database: str = setting(
        values.database,
        "Its database, if not portal.sqlite3 in the data folder. On a PostgreSQL server it "
        "needs one that is empty and its own.",
        default="",
        example="postgres:///dit4c_portal?host=/run/postgresql",
    )
    tls: TlsSettings = section(
        TlsSettings, "The certificate, in files that are looked at again when they change."
    )
    proxies: ProxySettings = section(
        ProxySettings, "Proxies in front, whose word about a visitor's address is believed."
    )
    log: LogSettings = section(LogSettings, "What it writes to standard error.")
    observe: ObserveSettings = section(ObserveSettings, "Health and figures, for those who run it.")
    limits: PortalLimits = section(PortalLimits, "How much and how long.")
    login: LoginSettings = section(LoginSettings, "Who may come, and the login page.")
    providers: tuple[ProviderEntry, ...] = sections(
        ProviderEntry, "Somebody who says who people are, besides passkeys. Once for each."
    )
    allow: tuple[AllowEntry, ...] = sections(
        AllowEntry,
        "People who may come without an invitation, where signup is listed. Once for each.",
    )
    routers: tuple[RouterEntry, ...] = sections(
        RouterEntry, "A routing server, as everybody reaches it. Once for each.", shown=True
    )
    fileservers: tuple[FileServerEntry, ...] = sections(
        FileServerEntry,
        "A file server, as everybody reaches it. Once for each; the first is the home of the files "
        "of new people and groups. Without one there is no /mnt in instances.",
    )
    imageservers: tuple[ImageServerEntry, ...] = sections(
        ImageServerEntry,
        "An image server, as everybody reaches it. Once for each; images are saved at the first. "
        "Without one nothing can be saved.",
    )
    tools: tuple[ToolEntry, ...] = sections(
        ToolEntry,
        "Something that people can start. Once for each, in the order of the page. Admins add "
        "others on the page Catalogue.",
    )

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Nothing may be there twice, and a portal without a router can't show an instance."""
        yield from ports_given_twice(self.listening)
        yield from listening_settings_problems(
            self.listen, self.listen_tls, self.redirect, self.tls
        )
        if not self.routers:
            yield "routers", "there is none", "add [[routers]] with id, ssh and http"
        for what, ids in (
            ("routers", [router.id for router in self.routers]),
            ("fileservers", [server.id for server in self.fileservers]),
            ("imageservers", [server.id for server in self.imageservers]),
            ("tools", [tool.name for tool in self.tools]),
            ("providers", [provider.id for provider in self.providers]),
        ):
            for id, count in Counter(ids).items():
                if count > 1:
                    yield what, f"{id} is there {count} times", "each needs a name of its own"

        known = {provider.id for provider in self.providers}
        named = [("allow", entry.provider) for entry in self.allow]
        named += [("login.admins", admin.partition(":")[0]) for admin in self.login.admins]
        for where, provider in named:
            if provider not in known:
                yield where, f"{provider} is no provider", "add [[providers]] with this id"

    def file_problems(self) -> Iterator[ConfigError]:
        """See :class:`Settings`."""
        yield from self.tls.certificate_problems(URL(self.url).host or "")

    @property
    def name(self) -> PeerName:
        """Its peer name."""
        return PeerName(Kind.PORTAL, self.id)

    @property
    def key_path(self) -> Path:
        """Where its private key is."""
        return self.data_folder / "key"

    @property
    def listening(self) -> Listening:
        """Every address to be bound, by the setting that says so."""
        return {
            "listen": self.listen,
            "listen_tls": self.listen_tls,
            "redirect": self.redirect,
            **self.observe.listening,
        }

    def config(self) -> "PortalConfig":
        """What the portal is told."""
        from dit4c_p2p.portal import PortalConfig

        return PortalConfig(
            id=self.id,
            data_folder=self.data_folder,
            database=self.database,
            url=self.url,
            addresses=self.listen,
            secure_addresses=self.listen_tls,
            redirect_addresses=self.redirect,
            tls=self.tls.files,
            proxies=self.proxies.believed,
            connect=self.connect,
            user_url=self.user_url,
            routers=tuple(router.info for router in self.routers),
            fileservers=tuple(server.info for server in self.fileservers),
            catalogue=tuple(tool.image_entry for tool in self.tools),
            tool_pictures=None if self.tool_pictures == Path() else self.tool_pictures,
            imageservers=tuple(server.known for server in self.imageservers),
            scheduler=self.scheduler,
            login=login_config(self.login, self.providers, self.allow),
            limits=self.limits,
        )
