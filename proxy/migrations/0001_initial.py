import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import proxy.models.credentials
import proxy.models.prompt_log
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('projects', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='PromptLogEntry',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('sealed_body', models.BinaryField()),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='prompt_log_entries', to='projects.project')),
            ],
            options={
                'verbose_name_plural': 'prompt log entries',
            },
        ),
        migrations.CreateModel(
            name='PromptLogSettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('mode', models.CharField(choices=[('off', 'Nothing'), ('preview', 'The first 500 characters'), ('full', 'Whole prompts and responses')], default='preview', max_length=10)),
                ('retention_days', models.PositiveIntegerField(default=30, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(3660)])),
                ('rules', models.JSONField(blank=True, default=proxy.models.prompt_log.all_rules)),
                ('patterns', models.JSONField(blank=True, default=list)),
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='prompt_log_settings', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='PromptLogUser',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(max_length=64)),
                ('entry', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='end_users', to='proxy.promptlogentry')),
                ('project', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='Route',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='The model’s name in requests.', max_length=200)),
                ('strategy', models.CharField(choices=[('ordered', 'Ordered: the first target that works'), ('weighted', 'Weighted: at random by weight'), ('cheapest', 'Cheapest: by the estimated cost of the request'), ('least_latency', 'Least latency: by the time until the response starts')], default='ordered', max_length=20)),
                ('targets', models.JSONField(default=list)),
                ('fallbacks', models.JSONField(blank=True, default=list)),
                ('rule', models.JSONField(blank=True, default=dict)),
                ('retry_attempts', models.PositiveSmallIntegerField(blank=True, help_text='0 to 10. Empty: the gateway’s setting.', null=True)),
                ('retry_delay_ms', models.PositiveIntegerField(blank=True, help_text='Up to 60000. Empty: the gateway’s setting.', null=True, verbose_name='retry delay in milliseconds')),
                ('retries_context_length', models.BooleanField(default=False, verbose_name='call the next target if a prompt is too long for a model')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='routes', to='projects.project')),
            ],
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
                ('usage_defaults', models.TextField(help_text='What the request asked for, in JSON. It is charged if the response does not report it.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('polls', models.PositiveIntegerField(default=0)),
                ('next_poll_at', models.DateTimeField(db_index=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='background_responses', to='projects.project')),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'digest'], name='background_by_digest')],
            },
        ),
        migrations.CreateModel(
            name='Credential',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(help_text='The prefix of model names: “local” is called as local/llama3.', max_length=60, verbose_name='name')),
                ('provider', models.CharField(choices=proxy.models.credentials.provider_choices, max_length=60)),
                ('base_url', models.CharField(blank=True, help_text="If empty, the provider's own URL is used.", max_length=300, validators=[proxy.models.credentials.validate_credential_url], verbose_name='base URL')),
                ('sealed_secret', models.TextField(blank=True, editable=False)),
                ('secret_suffix', models.CharField(blank=True, editable=False, max_length=4)),
                ('model_names', models.JSONField(blank=True, default=list, help_text='Models that can be called without the prefix.', verbose_name='models')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('last_success_at', models.DateTimeField(editable=False, null=True)),
                ('last_error_at', models.DateTimeField(editable=False, null=True)),
                ('last_error', models.TextField(blank=True, editable=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='credentials', to='projects.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'slug'), name='unique_credential_slug')],
            },
        ),
        migrations.CreateModel(
            name='IdempotentRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=255)),
                ('fingerprint', models.CharField(max_length=64)),
                ('claim_id', models.UUIDField(unique=True)),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('sealed_response', models.TextField(blank=True, help_text='Data of customers, encrypted like credentials.')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='idempotent_requests', to='projects.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'key'), name='unique_idempotency_key')],
            },
        ),
        migrations.CreateModel(
            name='IssuedId',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('account', models.CharField(max_length=60)),
                ('kind', models.CharField(max_length=20)),
                ('digest', models.CharField(max_length=64)),
                ('model', models.CharField(db_default='', default='', max_length=200)),
                ('expires_at', models.DateTimeField(db_index=True, null=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='issued_ids', to='projects.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'digest'), name='unique_issued_id')],
            },
        ),
        migrations.AddIndex(
            model_name='promptlogentry',
            index=models.Index(fields=['project', 'id'], name='prompt_log_by_project_id'),
        ),
        migrations.AddConstraint(
            model_name='promptloguser',
            constraint=models.UniqueConstraint(fields=('project', 'digest', 'entry'), name='unique_prompt_log_user'),
        ),
    ]
