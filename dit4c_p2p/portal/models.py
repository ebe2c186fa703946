"""The portal's tables. Times are seconds since 1970 (UTC).

All of them are in one file, because migrations are made from the models of one module.

Secrets (login links, sessions, tokens, codes) are stored as their SHA-256 only, so that a copy of
the database logs nobody in. After a change here::

    python -m dit4c_p2p.database makemigrations portal
"""

from collections.abc import Iterable
from typing import Any

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model

_DIGEST = 64  # SHA-256 in hexadecimal
_ID = 40
_NAME = 52  # "imageserver-" and an id
_FINGERPRINT = 43


class Counter(Model):
    """Counters that only grow, also across restarts: ``change``, ``serial``."""

    name = fields.CharField(max_length=20, primary_key=True)
    value = fields.BigIntField()

    class Meta:
        table = "counter"
        table_description = "Numbers that only go up"


class Person(Model):
    """Somebody with an account: in force until ``ends_at`` if there is one, unless disabled.

    ``checkpoint_minutes``: how often checkpoints of their instances are made, 0 for never; None: as
    the installation has it.
    ``instances_limit`` and ``instances_at_once_limit`` are what an admin chose for this person;
    None: what the groups or the settings say. A deleted account (``deleted_at``) stays as a row
    without a name, so that nobody else gets its id; its files are removed until
    ``files_removed_at``.
    """

    id = fields.CharField(max_length=_ID, primary_key=True)
    name = fields.CharField(max_length=100)
    is_admin = fields.BooleanField()
    created_at = fields.FloatField()
    ends_at = fields.FloatField(null=True)
    disabled_at = fields.FloatField(null=True)
    seen_at = fields.FloatField(null=True)
    checkpoint_minutes = fields.IntField(null=True)
    instances_limit = fields.IntField(null=True)
    instances_at_once_limit = fields.IntField(null=True)
    deleted_at = fields.FloatField(null=True)
    files_removed_at = fields.FloatField(null=True)

    class Meta:
        table = "person"
        table_description = "Accounts"


class LoginLink(Model):
    """A one-time link; spent by a conditional update of ``spent_at``.

    ``made_by`` is the id of the person who made it; empty for a command on the portal's machine.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="login_links", on_delete=fields.CASCADE
    )
    expires_at = fields.FloatField(db_index=True)
    spent_at = fields.FloatField(null=True)
    made_by = fields.CharField(max_length=_ID, db_default="")

    class Meta:
        table = "login_link"
        table_description = "One-time links"


class Session(Model):
    """A browser that is logged in; the row's removal ends it at once.

    ``ended_at`` is set when the account was disabled: the row only says why, and never comes back.
    ``browser`` is what the person knows it by, such as ``Firefox on Linux``.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="sessions", on_delete=fields.CASCADE
    )
    person_id: str
    created_at = fields.FloatField()
    used_at = fields.FloatField()
    ended_at = fields.FloatField(null=True)
    browser = fields.CharField(max_length=60, db_default="")

    class Meta:
        table = "session"
        table_description = "Browsers that are logged in"


class Passkey(Model):
    """A WebAuthn credential; ``digest`` is of its id, ``credential``, which is base64url.

    ``public_key`` is COSE in base64url, ``sign_count`` what the authenticator last said.
    ``transports`` are the ways to reach the authenticator.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="passkeys", on_delete=fields.CASCADE
    )
    person_id: str
    credential = fields.TextField()
    public_key = fields.TextField()
    sign_count = fields.BigIntField()
    transports: fields.Field[list[str]] = fields.JSONField()
    name = fields.CharField(max_length=100)
    created_at = fields.FloatField()
    used_at = fields.FloatField(null=True)

    class Meta:
        table = "passkey"
        table_description = "Passkeys that people log in with"


class PersonIdentity(Model):
    """Somebody at an identity provider who is let in as a person here.

    ``digest`` is of ``provider``, the id of one in the configuration, and of ``subject``, the
    provider's own word for them. ``label`` is what it last called them.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="identities", on_delete=fields.CASCADE
    )
    person_id: str
    provider = fields.CharField(max_length=_ID)
    subject = fields.CharField(max_length=255)
    label = fields.CharField(max_length=200)
    created_at = fields.FloatField()
    used_at = fields.FloatField(null=True)

    class Meta:
        table = "person_identity"
        table_description = "Identities at providers"


class Invitation(Model):
    """A link by which ``uses`` people may make an account; ``used`` have.

    ``label`` says to admins what it is for. ``group`` is the id of a group that they come into,
    empty for none. ``person_ends_at`` becomes the end of their accounts.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    label = fields.CharField(max_length=100)
    uses = fields.IntField()
    used = fields.IntField()
    expires_at = fields.FloatField(db_index=True)
    is_admin = fields.BooleanField()
    group = fields.CharField(max_length=_ID)
    person_ends_at = fields.FloatField(null=True)
    made_by = fields.CharField(max_length=_ID)
    created_at = fields.FloatField()
    ended_at = fields.FloatField(null=True)

    class Meta:
        table = "invitation"
        table_description = "Links by which people make accounts"


class ApiToken(Model):
    """A token for the HTTP API; one for each person and label.

    ``scopes`` are what it may be used for, with spaces between: ``instances:read``,
    ``instances:write``, ``admin``.
    ``ended_at`` as for :class:`Session`.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="api_tokens", on_delete=fields.CASCADE
    )
    person_id: str
    label = fields.CharField(max_length=100)
    created_at = fields.FloatField()
    scopes = fields.CharField(max_length=60, db_default="instances:read instances:write")
    expires_at = fields.FloatField(null=True)
    used_at = fields.FloatField(null=True)
    ended_at = fields.FloatField(null=True)

    class Meta:
        table = "api_token"
        table_description = "Tokens for the HTTP API"
        unique_together = (("person", "label"),)


class DeviceCode(Model):
    """A program that waits to be let in by a code (RFC 8628).

    ``digest`` is of what the program holds, ``user_code`` the digest of what its person compares.
    ``decided`` is empty, ``approved`` or ``denied``, by the person. ``origin`` is an address.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    user_code = fields.CharField(max_length=_DIGEST, unique=True)
    name = fields.CharField(max_length=100)
    origin = fields.CharField(max_length=60)
    scopes = fields.CharField(max_length=60)
    created_at = fields.FloatField()
    expires_at = fields.FloatField(db_index=True)
    polled_at = fields.FloatField(null=True)
    decided = fields.CharField(max_length=10, default="", db_default="")
    person: fields.ForeignKeyNullableRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="device_codes", on_delete=fields.CASCADE, null=True
    )
    person_id: str | None

    class Meta:
        table = "device_code"
        table_description = "Programs that wait to be let in"


class Instance(Model):
    """What a person wanted, and what its scheduler last said of it.

    ``sequence`` is the number of the newest report. ``answers_on`` lists the routers through which
    the listener saw its own URL answer. ``changed_at`` is when its state last changed,
    ``discard_asked_at`` the person's wish, on its way.

    ``gone``: its container is not there any more, so it can't be started again. ``ran``: it was
    reachable once, so that there may be files to save.
    ``checkpoint_at`` is the moment of the newest checkpoint that the image server has,
    ``checkpoint_busy`` whether another is under way, ``checkpoint_info`` a sentence on that or on
    why there is none. ``checkpoint_minutes``: how often one is made, 0 for never; None: as its
    person has it.

    ``epoch`` counts how often it has gone on at another machine, last at ``moved_at``. ``kept_on``
    names earlier machines that have a container of it, with spaces between.
    ``version`` grows by one with each :meth:`save`, so that a page that gets two views of one
    instance knows which is newer. Change an instance by :meth:`save` only, never by a bulk update.
    """

    id = fields.CharField(max_length=_ID, primary_key=True)
    owner: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="instances", on_delete=fields.RESTRICT
    )
    owner_id: str
    name = fields.CharField(max_length=100)
    image_name = fields.CharField(max_length=100)
    image = fields.CharField(max_length=400)
    scheduler = fields.CharField(max_length=_ID, db_index=True)
    key_nonce = fields.CharField(max_length=64)
    state = fields.CharField(max_length=20)
    info = fields.TextField()
    progress = fields.FloatField(null=True)
    sequence = fields.BigIntField()
    log_tail = fields.TextField()
    node = fields.CharField(max_length=_NAME, null=True)
    answers_on: fields.Field[list[str]] = fields.JSONField()
    created_at = fields.FloatField()
    changed_at = fields.FloatField()
    discard_asked_at = fields.FloatField(null=True)
    version = fields.BigIntField(default=0, db_default=0)
    gone = fields.BooleanField(default=False, db_default=False)
    ran = fields.BooleanField(default=True, db_default=True)
    checkpoint_at = fields.FloatField(null=True)
    checkpoint_busy = fields.BooleanField(default=False, db_default=False)
    checkpoint_info = fields.TextField(default="", db_default="")
    checkpoint_progress = fields.FloatField(null=True)
    checkpoint_minutes = fields.IntField(null=True)
    epoch = fields.IntField(default=0, db_default=0)
    moved_at = fields.FloatField(null=True)
    kept_on = fields.TextField(default="", db_default="")

    class Meta:
        table = "instance"
        table_description = "What people wanted and what became of it"
        indexes = (Index(fields=("owner_id", "created_at")), Index(fields=("state",)))

    async def save(
        self,
        using_db: Any = None,
        update_fields: Iterable[str] | None = None,
        force_create: bool = False,
        force_update: bool = False,
    ) -> None:
        """Write the row, or ``update_fields`` of it, under the next :attr:`version`."""
        self.version += 1
        if update_fields is not None:
            update_fields = [*update_fields, "version"]
        await super().save(using_db, update_fields, force_create, force_update)


class ImageSave(Model):
    """A save or a checkpoint that a person asked for: its instance may write to its repository at
    the image server until ``ended_at``, when the image was confirmed or given up.

    ``record`` is what the portal has signed of the image (``messages.saved_images.ImageRecord`` as
    text), with ``signature``. ``layer_bytes`` is what was new in it, ``total_bytes`` all of it.
    ``removed_at`` is when it was deleted here, ``purged_at`` when at the image server.

    ``base`` is the digest of the tool's image whose layers this save uploads to ``bases/``, once it
    has asked to. ``digest`` is that of the image's manifest, once it is confirmed.
    """

    id = fields.CharField(max_length=_ID, primary_key=True)
    instance: fields.ForeignKeyRelation[Instance] = fields.ForeignKeyField(
        "portal.Instance", related_name="saves", on_delete=fields.CASCADE
    )
    instance_id: str
    is_checkpoint = fields.BooleanField()
    wanted_at = fields.FloatField()
    ended_at = fields.FloatField(null=True)
    base = fields.CharField(max_length=71, null=True)
    digest = fields.CharField(max_length=71, null=True)
    record = fields.TextField(db_default="")
    signature = fields.TextField(db_default="")
    layer_bytes = fields.BigIntField(db_default=0)
    total_bytes = fields.BigIntField(db_default=0)
    removed_at = fields.FloatField(null=True)
    purged_at = fields.FloatField(null=True)

    class Meta:
        table = "image_save"
        table_description = "Saves that people asked for"
        indexes = (Index(fields=("instance_id", "ended_at")),)


class ImageShare(Model):
    """A link to a save, good until ``ends_at`` or ``revoked_at``; ``digest`` is its secret's."""

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    image: fields.ForeignKeyRelation[ImageSave] = fields.ForeignKeyField(
        "portal.ImageSave", related_name="shares", on_delete=fields.CASCADE
    )
    image_id: str
    by: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="image_shares", on_delete=fields.CASCADE
    )
    by_id: str
    created_at = fields.FloatField()
    ends_at = fields.FloatField()
    revoked_at = fields.FloatField(null=True)

    class Meta:
        table = "image_share"
        table_description = "Links to saved instances"


class ImageShareUse(Model):
    """Somebody used a link: ``what`` is ``copy`` or ``export``."""

    id = fields.BigIntField(primary_key=True, generated=True)
    share: fields.ForeignKeyRelation[ImageShare] = fields.ForeignKeyField(
        "portal.ImageShare", related_name="uses", on_delete=fields.CASCADE
    )
    share_id: str
    person_id = fields.CharField(max_length=_ID)
    what = fields.CharField(max_length=10)
    at = fields.FloatField()

    class Meta:
        table = "image_share_use"
        table_description = "Who used a link to a saved instance"


class ImageSecret(Model):
    """The password with which a stock client pulls one repository; the user name is ``person``.

    ``digest`` is that of the secret. It ends with ``ends_at`` or ``revoked_at``, and with the
    person's account.
    """

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="image_secrets", on_delete=fields.CASCADE
    )
    person_id: str
    repository = fields.CharField(max_length=200)
    created_at = fields.FloatField()
    ends_at = fields.FloatField(db_index=True)
    used_at = fields.FloatField(null=True)
    revoked_at = fields.FloatField(null=True)

    class Meta:
        table = "image_secret"
        table_description = "Secrets to pull saved images with"


class Tool(Model):
    """An image that an admin added to those of the configuration; its name never changes.

    Nobody can start it from ``withdrawn_at`` on. ``added_by`` is a person's id.
    """

    name = fields.CharField(max_length=_ID, primary_key=True)
    title = fields.CharField(max_length=100)
    description = fields.CharField(max_length=300)
    icon = fields.CharField(max_length=2)
    image = fields.CharField(max_length=400)
    added_at = fields.FloatField()
    added_by = fields.CharField(max_length=_ID)
    withdrawn_at = fields.FloatField(null=True)

    class Meta:
        table = "tool"
        table_description = "What admins added for people to start"


class ToolGroup(Model):
    """A tool (``tool`` is its name in the catalogue) is offered to this group's members.

    A tool without any such row is offered to everyone.
    """

    id = fields.BigIntField(primary_key=True, generated=True)
    tool = fields.CharField(max_length=_ID)
    group: fields.ForeignKeyRelation["Group"] = fields.ForeignKeyField(
        "portal.Group", related_name="tools", on_delete=fields.CASCADE
    )
    group_id: str

    class Meta:
        table = "tool_group"
        table_description = "Which tools are for which groups alone"
        unique_together = (("tool", "group"),)


class Peer(Model):
    """A peer that was enrolled; ``scheduler`` is the id of the one that a node belongs to.

    ``owner`` is the id of the person who lends a node; None: the node is the institution's.
    ``reached``: whether it was at last (a node by its scheduler, a scheduler by the portal), None
    if nothing is known; since when (``reached_since``); and why not, in words (``trouble``).
    """

    name = fields.CharField(max_length=_NAME, primary_key=True)
    scheduler = fields.CharField(max_length=_ID, null=True)
    owner = fields.CharField(max_length=_ID, null=True)
    enrolled_at = fields.FloatField()
    reached = fields.BooleanField(null=True)
    reached_since = fields.FloatField(null=True)
    trouble = fields.TextField(db_default="")

    class Meta:
        table = "peer"
        table_description = "Enrolled peers"


class SshKey(Model):
    """A key and its permanent holder: a revoked key can't come back or change its holder.

    ``label`` is what a person calls a key of their own.
    """

    fingerprint = fields.CharField(max_length=_FINGERPRINT, primary_key=True)
    name = fields.CharField(max_length=_NAME, db_index=True)
    line = fields.TextField()
    published_at = fields.FloatField()
    revoked_at = fields.FloatField(null=True)
    seen_at = fields.FloatField(null=True)
    label = fields.CharField(max_length=100, db_default="")

    class Meta:
        table = "ssh_key"
        table_description = "Keys and their holders"


class PendingKey(Model):
    """A person's key that has not logged in yet; it reserves nothing: several people may add it."""

    id = fields.BigIntField(primary_key=True, generated=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="pending_keys", on_delete=fields.CASCADE
    )
    person_id: str
    fingerprint = fields.CharField(max_length=_FINGERPRINT, db_index=True)
    line = fields.TextField()
    label = fields.CharField(max_length=100)
    added_at = fields.FloatField()
    expires_at = fields.FloatField(db_index=True)

    class Meta:
        table = "pending_key"
        table_description = "Keys of people that have not logged in yet"
        unique_together = (("person", "fingerprint"),)


class KeyChange(Model):
    """A change of a key; ``change`` grows by one over all names."""

    change = fields.BigIntField(primary_key=True)
    name = fields.CharField(max_length=_NAME)
    fingerprint = fields.CharField(max_length=_FINGERPRINT)
    what = fields.CharField(max_length=10)
    by = fields.CharField(max_length=100)
    at = fields.FloatField()

    class Meta:
        table = "key_change"
        table_description = "What happened to which key"


class EnrolNonce(Model):
    """A nonce that a new key has to sign, used once."""

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    person_id = fields.CharField(max_length=_ID)
    expires_at = fields.FloatField(db_index=True)

    class Meta:
        table = "enrol_nonce"
        table_description = "Nonces for new keys"


class UsedToken(Model):
    """A JWT that was used, stored until it expires."""

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    expires_at = fields.FloatField(db_index=True)

    class Meta:
        table = "used_token"
        table_description = "Tokens that were acted on"


class Outgoing(Model):
    """A message to a scheduler, kept until acknowledged; sent in the order of ``position``."""

    position = fields.BigIntField(primary_key=True, generated=True)
    message_id = fields.CharField(max_length=64, unique=True)
    scheduler = fields.CharField(max_length=_ID, db_index=True)
    body = fields.TextField()
    created_at = fields.FloatField()

    class Meta:
        table = "outgoing"
        table_description = "What schedulers are to be told"


class Incoming(Model):
    """A scheduler's message that was processed."""

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    at = fields.FloatField(db_index=True)

    class Meta:
        table = "incoming"
        table_description = "Messages that were acted on"


class OAuthCode(Model):
    """An authorization code (RFC 6749 section 4.1.2), used once."""

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    instance = fields.CharField(max_length=_ID)
    person_id = fields.CharField(max_length=_ID)
    session = fields.CharField(max_length=_DIGEST)
    redirect_uri = fields.TextField()
    challenge = fields.CharField(max_length=128)
    expires_at = fields.FloatField(db_index=True)
    used_at = fields.FloatField(null=True)

    class Meta:
        table = "oauth_code"
        table_description = "Authorization codes"


class OAuthToken(Model):
    """An access token for one instance and one person, made from one session."""

    digest = fields.CharField(max_length=_DIGEST, primary_key=True)
    code = fields.CharField(max_length=_DIGEST, db_index=True)
    instance = fields.CharField(max_length=_ID, db_index=True)
    person_id = fields.CharField(max_length=_ID, db_index=True)
    session = fields.CharField(max_length=_DIGEST, db_index=True)
    created_at = fields.FloatField()
    expires_at = fields.FloatField(db_index=True)
    revoked_at = fields.FloatField(null=True)

    class Meta:
        table = "oauth_token"
        table_description = "Access tokens"


class Group(Model):
    """People who share files; ``id`` never changes, ``/mnt/shared/<id>`` is made of it.

    A closed group shares nothing; its files and members stay, and it may be opened again.
    ``instances_limit`` and ``instances_at_once_limit`` are of each member; None: the settings'.
    """

    id = fields.CharField(max_length=_ID, primary_key=True)
    title = fields.CharField(max_length=100)
    created_at = fields.FloatField()
    created_by = fields.CharField(max_length=_ID)
    closed_at = fields.FloatField(null=True)
    instances_limit = fields.IntField(null=True)
    instances_at_once_limit = fields.IntField(null=True)

    class Meta:
        table = "person_group"
        table_description = "Groups"


class GroupMember(Model):
    """A person in a group.

    ``writes``: the person may change its files; ``manages``: the person may change its members.
    """

    id = fields.BigIntField(primary_key=True, generated=True)
    group: fields.ForeignKeyRelation[Group] = fields.ForeignKeyField(
        "portal.Group", related_name="members", on_delete=fields.CASCADE
    )
    group_id: str
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="memberships", on_delete=fields.CASCADE
    )
    person_id: str
    writes = fields.BooleanField()
    manages = fields.BooleanField()
    added_at = fields.FloatField()
    added_by = fields.CharField(max_length=_ID)

    class Meta:
        table = "group_member"
        table_description = "Who is in which group"
        unique_together = (("group", "person"),)
        indexes = (Index(fields=("person_id",)),)


class StorageTree(Model):
    """Where the files of a person or a group are: ``name`` is ``user-<id>`` or ``group-<id>``.

    ``server`` is the id of the home file server. ``quota_bytes`` is what an admin chose; None: the
    setting's.
    """

    name = fields.CharField(max_length=_NAME, primary_key=True)
    server = fields.CharField(max_length=_ID, null=True)
    quota_bytes = fields.BigIntField(null=True)

    class Meta:
        table = "storage_tree"
        table_description = "Home file servers and quotas"


class OwnerConsent(Model):
    """A person lets their files be opened on the machines of another, ``owner``."""

    id = fields.BigIntField(primary_key=True, generated=True)
    person: fields.ForeignKeyRelation[Person] = fields.ForeignKeyField(
        "portal.Person", related_name="consents", on_delete=fields.CASCADE
    )
    person_id: str
    owner = fields.CharField(max_length=_ID)
    given_at = fields.FloatField()

    class Meta:
        table = "owner_consent"
        table_description = "Whose machines may open whose files"
        unique_together = (("person", "owner"),)
