from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0007_moves")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InstanceRow",
            name="title",
            field=fields.TextField(db_default="", unique=False),
        ),
    ]
