from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0006_price_overrides'),
    ]

    operations = [
        migrations.AlterField(
            model_name='usagerecord',
            name='outcome',
            field=models.CharField(choices=[('ok', 'Ok'), ('cached', 'Cached'), ('auth', 'Auth'), ('scope', 'Scope'), ('budget', 'Budget'), ('rate', 'Rate'), ('invalid', 'Invalid'), ('upstream_error', 'Upstream Error'), ('client_closed', 'Client Closed'), ('unavailable', 'Unavailable')], max_length=16),
        ),
    ]
