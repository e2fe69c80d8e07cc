"""For which request or command something happened, so that it can be followed from there to the jobs."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("background_migrations", "0002_pages")]

    operations = [
        migrations.AddField(
            model_name="event", name="correlation_id", field=models.TextField(default="", db_default="")
        ),
    ]
