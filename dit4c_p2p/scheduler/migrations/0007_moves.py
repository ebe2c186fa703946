from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0006_checkpoints")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InstanceRow",
            name="epoch",
            field=fields.IntField(db_default=0),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="left_on",
            field=fields.TextField(db_default="", unique=False),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="kept_on",
            field=fields.TextField(db_default="", unique=False),
        ),
    ]
