from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0001_initial")]

    initial = False

    operations = [
        ops.AlterField(
            model_name="InstanceRow",
            name="image",
            field=fields.CharField(max_length=400),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="ran",
            field=fields.BooleanField(db_default=False),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="run",
            field=fields.IntField(db_default=1),
        ),
        ops.AddField(
            model_name="InstanceRow",
            name="wish",
            field=fields.BigIntField(db_default=0),
        ),
    ]
