import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0006_storage")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Passkey",
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
                        related_name="passkeys",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("credential", fields.TextField(unique=False)),
                ("public_key", fields.TextField(unique=False)),
                ("sign_count", fields.BigIntField()),
                (
                    "transports",
                    fields.JSONField(
                        encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("name", fields.CharField(max_length=100)),
                ("created_at", fields.FloatField()),
                ("used_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "passkey",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Passkeys that people log in with",
            },
            bases=["Model"],
        ),
    ]
