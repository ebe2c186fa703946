from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0009_login"), ("portal", "0009_reachability")]

    initial = False

    operations = [
        ops.AddField(
            model_name="ImageSave",
            name="layer_bytes",
            field=fields.BigIntField(db_default=0),
        ),
        ops.AddField(
            model_name="ImageSave",
            name="record",
            field=fields.TextField(db_default="", unique=False),
        ),
        ops.AddField(
            model_name="ImageSave",
            name="removed_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="ImageSave",
            name="signature",
            field=fields.TextField(db_default="", unique=False),
        ),
        ops.AddField(
            model_name="ImageSave",
            name="total_bytes",
            field=fields.BigIntField(db_default=0),
        ),
    ]
