from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0014_limits_and_deletion")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Instance",
            name="epoch",
            field=fields.IntField(default=0, db_default=0),
        ),
        ops.AddField(
            model_name="Instance",
            name="moved_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Instance",
            name="kept_on",
            field=fields.TextField(default="", db_default="", unique=False),
        ),
    ]
