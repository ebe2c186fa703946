"""The scheduler's tables. Times are seconds since 1970 (UTC). After a change here::

python -m dit4c_p2p.database makemigrations scheduler
"""

from tortoise import fields
from tortoise.models import Model

_ID = 40
# A registry's name and port, a repository (255 at most by the OCI), @ and a digest.
_IMAGE = 400
_DIGEST = 80
_NAME = 52  # "imageserver-" and an id


class InstanceRow(Model):
    """A ``lifecycle.Instance`` as written down; a discarded one stays, so that it can't come back.

    ``sequence`` is the number of its newest report. ``public_key`` is the key that the portal was
    last told of, empty before that.
    """

    id = fields.CharField(max_length=_ID, primary_key=True)
    image = fields.CharField(max_length=_IMAGE)
    key_nonce = fields.CharField(max_length=100)
    state = fields.CharField(max_length=20, db_index=True)
    node = fields.CharField(max_length=_NAME, null=True)
    info = fields.TextField()
    progress = fields.FloatField(null=True)
    log_tail = fields.TextField()
    discard_wanted = fields.BooleanField()
    pod_asked = fields.BooleanField()
    deadline = fields.FloatField(null=True)
    sequence = fields.BigIntField()
    run = fields.IntField(db_default=1)
    ran = fields.BooleanField(db_default=False)
    wish = fields.BigIntField(db_default=0)
    failure = fields.TextField(db_default="")
    gone = fields.BooleanField(db_default=False)
    key_run = fields.IntField(db_default=0)
    save_id = fields.CharField(max_length=_ID, db_default="")
    failed_save = fields.CharField(max_length=_ID, db_default="")
    uploaded = fields.CharField(max_length=_DIGEST, db_default="")
    confirmed = fields.BooleanField(db_default=False)
    checkpoint = fields.CharField(max_length=_ID, db_default="")
    checkpoint_info = fields.TextField(db_default="")
    checkpoint_progress = fields.FloatField(null=True)
    checkpoint_deadline = fields.FloatField(null=True)
    failed_checkpoint = fields.CharField(max_length=_ID, db_default="")
    failed_checkpoint_info = fields.TextField(db_default="")
    epoch = fields.IntField(db_default=0)
    left_on = fields.TextField(db_default="")
    kept_on = fields.TextField(db_default="")
    title = fields.TextField(db_default="")
    wanted_node = fields.CharField(max_length=_NAME, db_default="")
    public_key = fields.TextField()
    created_at = fields.FloatField()
    changed_at = fields.FloatField()

    class Meta:
        table = "instance"
        table_description = "What each instance has become"


class Incoming(Model):
    """A message of the portal's that has been acted on."""

    message_id = fields.CharField(max_length=100, primary_key=True)
    at = fields.FloatField(db_index=True)

    class Meta:
        table = "incoming"
        table_description = "Orders that were received"


class Outgoing(Model):
    """A message to the portal, kept until it is acknowledged; sent in the order of ``position``.

    A newer message of the same ``topic`` takes the place of one that was not acknowledged yet.
    """

    position = fields.BigIntField(primary_key=True, generated=True)
    message_id = fields.CharField(max_length=100, unique=True)
    topic = fields.CharField(max_length=120, db_index=True)
    body = fields.TextField()
    created_at = fields.FloatField()

    class Meta:
        table = "outgoing"
        table_description = "What the portal is to be told"
