from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0004_gone_and_new_keys")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InstanceRow",
            name="save_id",
            field=fields.CharField(db_default="", max_length=40),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="failed_save",
            field=fields.CharField(db_default="", max_length=40),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="uploaded",
            field=fields.CharField(db_default="", max_length=80),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="confirmed",
            field=fields.BooleanField(db_default=False),
        ),
    ]
