from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_outbox"), ("keys", "0003_limits"), ("projects", "0003_limits")]

    operations = [
        migrations.CreateModel(
            "OwedRecord",
            [
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("entry", models.TextField(help_text="The record as it goes to the outbox.")),
            ],
        ),
        migrations.RenameField("usagerecord", "shadow_budget_id", "refusing_budget_id"),
        migrations.AlterField(
            "usagerecord",
            "refusing_budget_id",
            models.BigIntegerField(
                null=True, help_text="The budget that refused it; of a request that was admitted, a shadow budget that would have."
            ),
        ),
        migrations.AddIndex(
            "usagerecord",
            models.Index(fields=["project", "id"], condition=Q(outcome="budget"), name="records_that_budgets_refused"),
        ),
        migrations.AlterField(
            "alert",
            "threshold",
            models.PositiveSmallIntegerField(help_text="Percent of the limit; 0: a request was refused."),
        ),
        migrations.AlterField(
            "reservation",
            "windows",
            models.TextField(blank=True, help_text="Ids of the budget windows that it counts in."),
        ),
    ]
