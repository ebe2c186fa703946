from tortoise import migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0015_moves")]

    initial = False

    operations = [
        ops.AddIndex(
            model_name="Instance",
            index=Index(fields=["state"]),
        ),
    ]
