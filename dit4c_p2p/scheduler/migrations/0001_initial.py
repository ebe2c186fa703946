from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="Incoming",
            fields=[
                (
                    "message_id",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=100),
                ),
                ("at", fields.FloatField(db_index=True)),
            ],
            options={
                "table": "incoming",
                "app": "scheduler",
                "pk_attr": "message_id",
                "table_description": "Orders that were received",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="InstanceRow",
            fields=[
                (
                    "id",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40),
                ),
                ("image", fields.CharField(max_length=100)),
                ("key_nonce", fields.CharField(max_length=100)),
                ("state", fields.CharField(db_index=True, max_length=20)),
                ("node", fields.CharField(null=True, max_length=52)),
                ("info", fields.TextField(unique=False)),
                ("progress", fields.FloatField(null=True)),
                ("log_tail", fields.TextField(unique=False)),
                ("discard_wanted", fields.BooleanField()),
                ("pod_asked", fields.BooleanField()),
                ("deadline", fields.FloatField(null=True)),
                ("sequence", fields.BigIntField()),
                ("public_key", fields.TextField(unique=False)),
                ("created_at", fields.FloatField()),
                ("changed_at", fields.FloatField()),
            ],
            options={
                "table": "instance",
                "app": "scheduler",
                "pk_attr": "id",
                "table_description": "What each instance has become",
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
                ("message_id", fields.CharField(unique=True, max_length=100)),
                ("topic", fields.CharField(db_index=True, max_length=120)),
                ("body", fields.TextField(unique=False)),
                ("created_at", fields.FloatField()),
            ],
            options={
                "table": "outgoing",
                "app": "scheduler",
                "pk_attr": "position",
                "table_description": "What the portal is to be told",
            },
            bases=["Model"],
        ),
    ]
