import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0002_config_version'),
        ('proxy', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='issuedid',
            name='model',
            field=models.CharField(db_default='', default='', max_length=200),
        ),
        migrations.CreateModel(
            name='BackgroundResponse',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('account', models.CharField(max_length=60)),
                ('digest', models.CharField(help_text='As in the issued id of the response.', max_length=64)),
                ('response_id', models.TextField()),
                ('entry', models.TextField(help_text='The usage record as an estimate, in JSON.')),
                ('price', models.TextField(blank=True, help_text='The price of the model in all tiers, in JSON, if it is known.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('polls', models.PositiveIntegerField(default=0)),
                ('next_poll_at', models.DateTimeField(db_index=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='background_responses', to='projects.project')),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'digest'], name='background_by_digest')],
            },
        ),
    ]
