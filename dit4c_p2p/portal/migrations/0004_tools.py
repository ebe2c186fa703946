from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0003_images_by_reference")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Tool",
            fields=[
                (
                    "name",
                    fields.CharField(primary_key=True, unique=True, db_index=True, max_length=40),
                ),
                ("title", fields.CharField(max_length=100)),
                ("description", fields.CharField(max_length=300)),
                ("icon", fields.CharField(max_length=2)),
                ("image", fields.CharField(max_length=400)),
                ("added_at", fields.FloatField()),
                ("added_by", fields.CharField(max_length=40)),
                ("withdrawn_at", fields.FloatField(null=True)),
            ],
            options={
                "table": "tool",
                "app": "portal",
                "pk_attr": "name",
                "table_description": "What admins added for people to start",
            },
            bases=["Model"],
        ),
    ]
