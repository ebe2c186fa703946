from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0007_passkeys")]

    initial = False

    operations = [
        ops.CreateModel(
            name="ImageSave",
            fields=[
                (
                    "id",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40),
                ),
                (
                    "instance",
                    fields.ForeignKeyField(
                        "portal.Instance",
                        source_field="instance_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="saves",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("is_checkpoint", fields.BooleanField()),
                ("wanted_at", fields.FloatField()),
                ("ended_at", fields.FloatField(null=True)),
                ("base", fields.CharField(null=True, max_length=71)),
                ("digest", fields.CharField(null=True, max_length=71)),
            ],
            options={
                "table": "image_save",
                "app": "portal",
                "indexes": [Index(fields=["instance_id", "ended_at"])],
                "pk_attr": "id",
                "table_description": "Saves that people asked for",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ImageSecret",
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
                        related_name="image_secrets",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("repository", fields.CharField(max_length=200)),
                ("created_at", fields.FloatField()),
                ("ends_at", fields.FloatField(db_index=True)),
                ("used_at", fields.FloatField(null=True)),
                ("revoked_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "image_secret",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Secrets to pull saved images with",
            },
            bases=["Model"],
        ),
    ]
