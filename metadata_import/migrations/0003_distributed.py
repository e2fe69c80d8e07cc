"""What a distributed import needs of an item: who works on it, and why nobody can."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("metadata_import", "0002_report_and_reasons")]

    operations = [
        migrations.AddField(model_name="importitem", name="claim", field=models.UUIDField(null=True)),
        migrations.AddField(model_name="importitem", name="error", field=models.TextField(default="", db_default="")),
    ]
