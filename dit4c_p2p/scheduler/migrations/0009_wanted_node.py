from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("scheduler", "0008_title")]

    initial = False

    operations = [
        ops.AddField(
            model_name="InstanceRow",
            name="wanted_node",
            field=fields.CharField(db_default="", max_length=52),
        ),
    ]
