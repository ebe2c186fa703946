from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0013_checkpoints")]

    initial = False

    operations = [
        ops.CreateModel(
            name="ToolGroup",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("tool", fields.CharField(max_length=40)),
                (
                    "group",
                    fields.ForeignKeyField(
                        "portal.Group",
                        source_field="group_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="tools",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
            ],
            options={
                "table": "tool_group",
                "app": "portal",
                "unique_together": (("tool", "group"),),
                "pk_attr": "id",
                "table_description": "Which tools are for which groups alone",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Group",
            name="instances_at_once_limit",
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name="Group",
            name="instances_limit",
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name="Person",
            name="deleted_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Person",
            name="files_removed_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Person",
            name="instances_at_once_limit",
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name="Person",
            name="instances_limit",
            field=fields.IntField(null=True),
        ),
    ]
