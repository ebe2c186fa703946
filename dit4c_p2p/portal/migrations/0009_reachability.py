from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0008_saved_images")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Instance",
            name="gone",
            field=fields.BooleanField(default=False, db_default=False),
        ),
        ops.AddField(
            model_name="Peer",
            name="reached",
            field=fields.BooleanField(null=True),
        ),
        ops.AddField(
            model_name="Peer",
            name="reached_since",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Peer",
            name="trouble",
            field=fields.TextField(db_default="", unique=False),
        ),
    ]
