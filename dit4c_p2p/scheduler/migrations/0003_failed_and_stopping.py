from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0002_stop_and_start")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InstanceRow",
            name="failure",
            field=fields.TextField(db_default="", unique=False),
        ),
    ]
