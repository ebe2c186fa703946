from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0001_first")]

    initial = False

    operations = [
        ops.AddField(
            model_name="ApiToken",
            name="ended_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="ApiToken",
            name="expires_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="ApiToken",
            name="scope",
            field=fields.CharField(db_default="admin", max_length=10),
        ),
        ops.AddField(
            model_name="ApiToken",
            name="used_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Person",
            name="disabled_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Person",
            name="ends_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Person",
            name="seen_at",
            field=fields.FloatField(null=True),
        ),
        ops.AddField(
            model_name="Session",
            name="browser",
            field=fields.CharField(db_default="", max_length=60),
        ),
        ops.AddField(
            model_name="Session",
            name="ended_at",
            field=fields.FloatField(null=True),
        ),
    ]
