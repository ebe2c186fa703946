from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0004_tools")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Instance",
            name="version",
            field=fields.BigIntField(default=0, db_default=0),
        ),
        ops.AddField(
            model_name="LoginLink",
            name="made_by",
            field=fields.CharField(db_default="", max_length=40),
        ),
    ]
