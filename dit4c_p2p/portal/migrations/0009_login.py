from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0008_saved_images")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Invitation",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                ("label", fields.CharField(max_length=100)),
                ("uses", fields.IntField()),
                ("used", fields.IntField()),
                ("expires_at", fields.FloatField(db_index=True)),
                ("is_admin", fields.BooleanField()),
                ("group", fields.CharField(max_length=40)),
                ("person_ends_at", fields.FloatField(null=True)),
                ("made_by", fields.CharField(max_length=40)),
                ("created_at", fields.FloatField()),
                ("ended_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "invitation",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Links by which people make accounts",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="PersonIdentity",
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
                        related_name="identities",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("provider", fields.CharField(max_length=40)),
                ("subject", fields.CharField(max_length=255)),
                ("label", fields.CharField(max_length=200)),
                ("created_at", fields.FloatField()),
                ("used_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "person_identity",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Identities at providers",
            },
            bases=["Model"],
        ),
    ]
