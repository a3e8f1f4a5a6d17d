from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_refusals")]

    operations = [
        migrations.AddField(
            "usagerecord",
            "unchecked",
            # The database has the default too: processes of the previous version go on inserting records during an upgrade.
            models.BooleanField(
                db_default=False, default=False, help_text="It was admitted while Redis was away, so that no budget was checked."
            ),
        ),
        migrations.AddField(
            "owedrecord",
            "owner",
            models.CharField(
                max_length=32,
                blank=True,
                default="",
                db_default="",
                help_text="The process of a request that was still under way: the record is an estimate, and counts if that process has died.",
            ),
        ),
    ]
