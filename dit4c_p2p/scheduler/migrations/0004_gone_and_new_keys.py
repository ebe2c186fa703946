from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0003_failed_and_stopping")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InstanceRow",
            name="gone",
            field=fields.BooleanField(db_default=False),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="key_run",
            field=fields.IntField(db_default=0),
        ),
    ]
