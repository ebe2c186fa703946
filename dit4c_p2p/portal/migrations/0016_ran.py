from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0015_moves")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Instance",
            name="ran",
            field=fields.BooleanField(default=True, db_default=True),
        ),
    ]
