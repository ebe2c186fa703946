from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0010_save_records")]

    initial = False

    operations = [
        ops.CreateModel(
            name="ImageShare",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                (
                    "image",
                    fields.ForeignKeyField(
                        "portal.ImageSave",
                        source_field="image_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="shares",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "by",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="by_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="image_shares",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("created_at", fields.FloatField()),
                ("ends_at", fields.FloatField()),
                ("revoked_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "image_share",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Links to saved instances",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ImageShareUse",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "share",
                    fields.ForeignKeyField(
                        "portal.ImageShare",
                        source_field="share_id",
                        db_constraint=True,
                        to_field="digest",
                        related_name="uses",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("person_id", fields.CharField(max_length=40)),
                ("what", fields.CharField(max_length=10)),
                ("at", fields.FloatField()),
            ],
            options={
                "table": "image_share_use",
                "app": "portal",
                "pk_attr": "id",
                "table_description": "Who used a link to a saved instance",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="ImageSave",
            name="purged_at",
            field=fields.FloatField(null=True),
        ),
    ]
