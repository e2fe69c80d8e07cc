"""What the pages need: the report of an attempt beside its run, and an index for what was left out by reason."""

from django.db import migrations, models
from django.db.models.functions import Collate, Left


class Migration(migrations.Migration):
    dependencies = [("metadata_import", "0001_initial")]

    operations = [
        migrations.AlterModelOptions(name="importrun", options={"default_permissions": ("view",)}),
        migrations.AddField(model_name="importrun", name="report", field=models.JSONField(null=True)),
        migrations.AddIndex(
            model_name="importskip",
            index=models.Index(
                models.F("run_id"),
                models.F("reason"),
                Collate(Left("path", 500), "C"),
                name="import_skips_of_reason",
            ),
        ),
    ]
