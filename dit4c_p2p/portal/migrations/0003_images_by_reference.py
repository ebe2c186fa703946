from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("portal", "0002_people_and_tokens")]

    initial = False

    operations = [
        ops.AlterField(
            model_name="Instance",
            name="image",
            field=fields.CharField(max_length=400),
        ),
    ]
