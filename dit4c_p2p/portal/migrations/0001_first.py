import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="Counter",
            fields=[
                (
                    "name",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=20),
                ),
                ("value", fields.BigIntField()),
            ],
            options={
                "table": "counter",
                "app": "portal",
                "pk_attr": "name",
                "table_description": "Numbers that only go up",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="EnrolNonce",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                ("person_id", fields.CharField(max_length=40)),
                ("expires_at", fields.FloatField(db_index=True)),
            ],
            options={
                "table": "enrol_nonce",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Nonces for new keys",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Incoming",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                ("at", fields.FloatField(db_index=True)),
            ],
            options={
                "table": "incoming",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Messages that were acted on",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="KeyChange",
            fields=[
                (
                    "change",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("name", fields.CharField(max_length=52)),
                ("fingerprint", fields.CharField(max_length=43)),
                ("what", fields.CharField(max_length=10)),
                ("by", fields.CharField(max_length=100)),
                ("at", fields.FloatField()),
            ],
            options={
                "table": "key_change",
                "app": "portal",
                "pk_attr": "change",
                "table_description": "What happened to which key",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OAuthCode",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                ("instance", fields.CharField(max_length=40)),
                ("person_id", fields.CharField(max_length=40)),
                ("session", fields.CharField(max_length=64)),
                ("redirect_uri", fields.TextField(unique=False)),
                ("challenge", fields.CharField(max_length=128)),
                ("expires_at", fields.FloatField(db_index=True)),
                ("used_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "oauth_code",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Authorization codes",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OAuthToken",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                ("code", fields.CharField(db_index=True, max_length=64)),
                ("instance", fields.CharField(db_index=True, max_length=40)),
                ("person_id", fields.CharField(db_index=True, max_length=40)),
                ("session", fields.CharField(db_index=True, max_length=64)),
                ("created_at", fields.FloatField()),
                ("expires_at", fields.FloatField(db_index=True)),
                ("revoked_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "oauth_token",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Access tokens",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Outgoing",
            fields=[
                (
                    "position",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("message_id", fields.CharField(unique=True, max_length=64)),
                ("scheduler", fields.CharField(db_index=True, max_length=40)),
                ("body", fields.TextField(unique=False)),
                ("created_at", fields.FloatField()),
            ],
            options={
                "table": "outgoing",
                "app": "portal",
                "pk_attr": "position",
                "table_description": "What schedulers are to be told",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Peer",
            fields=[
                (
                    "name",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=52),
                ),
                ("scheduler", fields.CharField(null=True, max_length=40)),
                ("enrolled_at", fields.FloatField()),
            ],
            options={
                "table": "peer",
                "app": "portal",
                "pk_attr": "name",
                "table_description": "Enrolled peers",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Person",
            fields=[
                (
                    "id",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40),
                ),
                ("name", fields.CharField(max_length=100)),
                ("is_admin", fields.BooleanField()),
                ("created_at", fields.FloatField()),
            ],
            options={
                "table": "person",
                "app": "portal",
                "pk_attr": "id",
                "table_description": "Accounts",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ApiToken",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                (
                    "person",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="person_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="api_tokens",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("label", fields.CharField(max_length=100)),
                ("created_at", fields.FloatField()),
            ],
            options={
                "table": "api_token",
                "app": "portal",
                "unique_together": (("person", "label"),),
                "pk_attr": "digest",
                "table_description": "Tokens for the HTTP API",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Instance",
            fields=[
                (
                    "id",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40),
                ),
                (
                    "owner",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="owner_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="instances",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("name", fields.CharField(max_length=100)),
                ("image_name", fields.CharField(max_length=100)),
                ("image", fields.CharField(max_length=100)),
                ("scheduler", fields.CharField(db_index=True, max_length=40)),
                ("key_nonce", fields.CharField(max_length=64)),
                ("state", fields.CharField(max_length=20)),
                ("info", fields.TextField(unique=False)),
                ("progress", fields.FloatField(null=True)),
                ("sequence", fields.BigIntField()),
                ("log_tail", fields.TextField(unique=False)),
                ("node", fields.CharField(null=True, max_length=52)),
                (
                    "answers_on",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("created_at", fields.FloatField()),
                ("changed_at", fields.FloatField()),
                ("discard_asked_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "instance",
                "app": "portal",
                "indexes": [Index(fields=["owner_id", "created_at"])],
                "pk_attr": "id",
                "table_description": "What people wanted and what became of it",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="LoginLink",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                (
                    "person",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="person_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="login_links",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("expires_at", fields.FloatField(db_index=True)),
                ("spent_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "login_link",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "One-time links",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Session",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                (
                    "person",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="person_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="sessions",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("created_at", fields.FloatField()),
                ("used_at", fields.FloatField()),
            ],
            options={
                "table": "session",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Browsers that are logged in",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="SshKey",
            fields=[
                (
                    "fingerprint",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=43),
                ),
                ("name", fields.CharField(db_index=True, max_length=52)),
                ("line", fields.TextField(unique=False)),
                ("published_at", fields.FloatField()),
                ("revoked_at", fields.FloatField(null=True)),
                ("seen_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "ssh_key",
                "app": "portal",
                "pk_attr": "fingerprint",
                "table_description": "Keys and their holders",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="UsedToken",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                ("expires_at", fields.FloatField(db_index=True)),
            ],
            options={
                "table": "used_token",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Tokens that were acted on",
            },
            bases=["Model"],
        ),
    ]
