from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0005_sessions_and_versions")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Group",
            fields=[
                (
                    "id",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40),
                ),
                ("title", fields.CharField(max_length=100)),
                ("created_at", fields.FloatField()),
                ("created_by", fields.CharField(max_length=40)),
                ("closed_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "person_group",
                "app": "portal",
                "pk_attr": "id",
                "table_description": "Groups",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="GroupMember",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "group",
                    fields.ForeignKeyField(
                        "portal.Group",
                        source_field="group_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="members",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "person",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="person_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="memberships",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("writes", fields.BooleanField()),
                ("manages", fields.BooleanField()),
                ("added_at", fields.FloatField()),
                ("added_by", fields.CharField(max_length=40)),
            ],
            options={
                "table": "group_member",
                "app": "portal",
                "unique_together": (("group", "person"),),
                "indexes": [Index(fields=["person_id"])],
                "pk_attr": "id",
                "table_description": "Who is in which group",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OwnerConsent",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "person",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="person_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="consents",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("owner", fields.CharField(max_length=40)),
                ("given_at", fields.FloatField()),
            ],
            options={
                "table": "owner_consent",
                "app": "portal",
                "unique_together": (("person", "owner"),),
                "pk_attr": "id",
                "table_description": "Whose machines may open whose files",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="PendingKey",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "person",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="person_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="pending_keys",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("fingerprint", fields.CharField(db_index=True, max_length=43)),
                ("line", fields.TextField(unique=False)),
                ("label", fields.CharField(max_length=100)),
                ("added_at", fields.FloatField()),
                ("expires_at", fields.FloatField(db_index=True)),
            ],
            options={
                "table": "pending_key",
                "app": "portal",
                "unique_together": (("person", "fingerprint"),),
                "pk_attr": "id",
                "table_description": "Keys of people that have not logged in yet",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="StorageTree",
            fields=[
                (
                    "name",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=52),
                ),
                ("server", fields.CharField(null=True, max_length=40)),
                ("quota_bytes", fields.BigIntField(null=True)),
            ],
            options={
                "table": "storage_tree",
                "app": "portal",
                "pk_attr": "name",
                "table_description": "Home file servers and quotas",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Peer",
            name="owner",
            field=fields.CharField(null=True, max_length=40),
        ),
        ops.AddField(
            model_name="SshKey",
            name="label",
            field=fields.CharField(db_default="", max_length=100),
        ),
    ]
