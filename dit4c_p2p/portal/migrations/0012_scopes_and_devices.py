from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0011_shares")]

    initial = False

    operations = [
        ops.CreateModel(
            name="DeviceCode",
            fields=[
                (
                    "digest",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64),
                ),
                ("user_code", fields.CharField(unique=True, max_length=64)),
                ("name", fields.CharField(max_length=100)),
                ("origin", fields.CharField(max_length=60)),
                ("scopes", fields.CharField(max_length=60)),
                ("created_at", fields.FloatField()),
                ("expires_at", fields.FloatField(db_index=True)),
                ("polled_at", fields.FloatField(null=True)),
                ("decided", fields.CharField(default="", db_default="", max_length=10)),
                (
                    "person",
                    fields.ForeignKeyField(
                        "portal.Person",
                        source_field="person_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="device_codes",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
            ],
            options={
                "table": "device_code",
                "app": "portal",
                "pk_attr": "digest",
                "table_description": "Programs that wait to be let in",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="ApiToken",
            name="scopes",
            field=fields.CharField(db_default="instances:read instances:write", max_length=60),
        ),
        # A user's token has become one for both; an admin's had everything.
        ops.RunSQL(
            "UPDATE api_token SET scopes = 'admin instances:read instances:write' "
            "WHERE scope = 'admin'",
            reverse_sql=ops.RunSQL.noop,
        ),
        ops.RemoveField(model_name="ApiToken", name="scope"),
    ]
