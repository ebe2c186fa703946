from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0012_scopes_and_devices")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Person",
            name="checkpoint_minutes",
            field=fields.IntField(null=True),
        ),
        ops.AddField(
            model_name="Instance",
            name="checkpoint_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Instance",
            name="checkpoint_busy",
            field=fields.BooleanField(default=False, db_default=False),
        ),
        ops.AddField(
            model_name="Instance",
            name="checkpoint_info",
            field=fields.TextField(default="", db_default="", unique=False),
        ),
        ops.AddField(
            model_name="Instance",
            name="checkpoint_progress",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Instance",
            name="checkpoint_minutes",
            field=fields.IntField(null=True),
        ),
    ]
