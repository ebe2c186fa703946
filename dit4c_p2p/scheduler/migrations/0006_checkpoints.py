from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0005_saves")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InstanceRow",
            name="checkpoint",
            field=fields.CharField(db_default="", max_length=40),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="checkpoint_info",
            field=fields.TextField(db_default="", unique=False),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="checkpoint_progress",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="checkpoint_deadline",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="failed_checkpoint",
            field=fields.CharField(db_default="", max_length=40),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="failed_checkpoint_info",
            field=fields.TextField(db_default="", unique=False),
        ),
    ]
