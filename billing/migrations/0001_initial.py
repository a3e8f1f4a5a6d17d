import billing.models.budgets
import billing.models.prices
import billing.models.webhooks
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import projects.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('keys', '0001_initial'),
        ('projects', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='StreamCursor',
            fields=[
                ('project', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='projects.project')),
                ('is_registered', models.BooleanField(default=False)),
                ('last_id_ms', models.BigIntegerField(default=0, help_text='First part of the id of the last stored stream entry: milliseconds.')),
                ('last_id_seq', models.BigIntegerField(default=0, help_text='Second part of that id: the sequence number within the millisecond.')),
            ],
        ),
        migrations.CreateModel(
            name='UnsentRecord',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('entry', models.TextField(help_text='The record, encoded as in the record stream.')),
                ('owner', models.CharField(blank=True, db_default='', default='', help_text='The process whose request was still in flight: the record is an estimate, which counts only if that process has died.', max_length=32)),
            ],
        ),
        migrations.CreateModel(
            name='AdminAlert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event', models.CharField(choices=[('model.retiring', 'model retires'), ('model.unpriced', 'model without a price'), ('credential.rejected', 'credential rejected')], max_length=40)),
                ('subject', models.CharField(max_length=200)),
                ('occasion', models.CharField(max_length=40)),
                ('title', models.CharField(max_length=200)),
                ('text', models.TextField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='admin_alerts', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='ArchivedUsage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('requested_model', models.CharField(max_length=200)),
                ('provider', models.CharField(max_length=60)),
                ('requests', models.PositiveIntegerField()),
                ('failures', models.PositiveIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('cost_nano', models.BigIntegerField()),
                ('saved_nano', models.BigIntegerField(db_default=0, default=0)),
                ('overrun_nano', models.BigIntegerField()),
                ('unchecked_nano', models.BigIntegerField()),
                ('key', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to='keys.apikey')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='archived_usage', to='projects.project')),
            ],
            options={
                'verbose_name_plural': 'archived usage',
            },
        ),
        migrations.CreateModel(
            name='Budget',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('period', models.CharField(choices=[('day', 'daily'), ('week', 'weekly'), ('month', 'monthly'), ('total', 'total')], max_length=8)),
                ('mode', models.CharField(choices=[('hard', 'deny requests'), ('soft', 'only warn'), ('shadow', 'only record which requests it would have denied')], default='hard', max_length=8, verbose_name='when it is used up')),
                ('limit_nano', models.BigIntegerField(validators=[django.core.validators.MinValueValidator(0)], verbose_name='limit (nano-USD)')),
                ('changed_at', models.DateTimeField(auto_now=True)),
                ('thresholds', models.JSONField(blank=True, default=billing.models.budgets.default_thresholds, help_text='Percent of the limit.', validators=[billing.models.budgets.validate_thresholds], verbose_name='alert at')),
                ('alert_members', models.ManyToManyField(blank=True, related_name='+', to='projects.membership', verbose_name='people to alert')),
                ('key', models.ForeignKey(blank=True, help_text='Empty: the whole project.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='budgets', to='keys.apikey')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='budgets', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('window', models.CharField(max_length=10)),
                ('threshold', models.PositiveSmallIntegerField(help_text='Percent of the limit; 0: a request was denied.')),
                ('spent_nano', models.BigIntegerField()),
                ('limit_nano', models.BigIntegerField()),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('budget', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='billing.budget')),
            ],
        ),
        migrations.CreateModel(
            name='BudgetWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='2026-11-20, 2026-W47, 2026-11 or total.', max_length=10)),
                ('spent_nano', models.BigIntegerField(default=0)),
                ('reserved_nano', models.BigIntegerField(default=0)),
                ('budget', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='windows', to='billing.budget')),
            ],
        ),
        migrations.CreateModel(
            name='DailyUsage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('requested_model', models.CharField(max_length=200)),
                ('provider', models.CharField(max_length=60)),
                ('requests', models.PositiveIntegerField()),
                ('failures', models.PositiveIntegerField()),
                ('input_tokens', models.BigIntegerField()),
                ('output_tokens', models.BigIntegerField()),
                ('cost_nano', models.BigIntegerField()),
                ('saved_nano', models.BigIntegerField(db_default=0, default=0)),
                ('key', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to='keys.apikey')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='daily_usage', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='PriceOverride',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(blank=True, help_text='A provider, or the name of a credential. Empty: any.', max_length=60)),
                ('model', models.CharField(help_text="The provider's name of the model. A * at the end matches any rest of a name: llama-*.", max_length=200, validators=[billing.models.prices.validate_model_pattern])),
                ('effective_from', models.DateTimeField(default=django.utils.timezone.now)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('file_issued_at', models.DateTimeField(blank=True, editable=False, help_text='When the price file was issued that has this price. Empty: a person has set it.', null=True)),
                ('input_nano', models.BigIntegerField(help_text='Nano-USD per million tokens.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input')),
                ('output_nano', models.BigIntegerField(help_text='Nano-USD per million tokens.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='output')),
                ('cache_read_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: same as input.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='cached input')),
                ('cache_write_5m_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: same as input.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input written to a 5-minute cache')),
                ('cache_write_1h_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: same as input.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input written to a 1-hour cache')),
                ('cache_write_12h_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: twice that of a 5-minute cache.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input written to a 12-hour cache')),
                ('reasoning_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: same as other output.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='reasoning')),
                ('request_nano', models.BigIntegerField(default=0, help_text='Nano-USD.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='each request')),
                ('tool_fees', models.JSONField(blank=True, default=dict, help_text='Nano-USD per call, by kind of tool.', validators=[billing.models.prices.validate_tool_fees])),
                ('project', models.ForeignKey(blank=True, help_text='Empty: all projects.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='price_overrides', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='Reservation',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('amount_nano', models.BigIntegerField()),
                ('windows', models.TextField(blank=True, help_text='Ids of the budget windows in which the amount counts as reserved.')),
                ('estimate', models.TextField(help_text='The usage record that is stored if the process dies before it settles the request.')),
                ('key', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, to='keys.apikey')),
                ('project', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='StaleDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('version', models.BigIntegerField()),
                ('project', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='UsageRecord',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('day', models.DateField(help_text="In the project's timezone.")),
                ('created_at', models.DateTimeField()),
                ('request_id', models.CharField(max_length=128)),
                ('operation', models.CharField(max_length=40)),
                ('format', models.CharField(max_length=20)),
                ('requested_model', models.CharField(max_length=200)),
                ('provider_model', models.CharField(max_length=200)),
                ('provider', models.CharField(max_length=60)),
                ('streamed', models.BooleanField()),
                ('outcome', models.CharField(choices=[('ok', 'Ok'), ('cached', 'Cached'), ('auth', 'Unauthenticated'), ('scope', 'Forbidden'), ('budget', 'Budget Exceeded'), ('rate', 'Rate Limited'), ('invalid', 'Invalid Request'), ('upstream_error', 'Upstream Error'), ('client_closed', 'Client Closed'), ('unavailable', 'Unavailable'), ('shed', 'Shed')], max_length=16)),
                ('status_code', models.PositiveSmallIntegerField()),
                ('error', models.CharField(max_length=200)),
                ('input_tokens', models.BigIntegerField()),
                ('cache_read_tokens', models.BigIntegerField()),
                ('cache_write_5m_tokens', models.BigIntegerField()),
                ('cache_write_1h_tokens', models.BigIntegerField()),
                ('cache_write_12h_tokens', models.BigIntegerField(db_default=0, default=0)),
                ('output_tokens', models.BigIntegerField()),
                ('reasoning_tokens', models.BigIntegerField()),
                ('cost_nano', models.BigIntegerField()),
                ('price', models.JSONField(help_text='Rates in nano-USD per million tokens, with their source.', null=True)),
                ('estimated', models.BooleanField(help_text='The gateway estimated the usage, or does not know the price of the service tier.')),
                ('latency_us', models.BigIntegerField()),
                ('first_token_us', models.BigIntegerField(null=True)),
                ('reserved_nano', models.BigIntegerField(help_text='The amount reserved for the request. Empty: the request was not admitted.', null=True)),
                ('service_tier', models.CharField(blank=True, default='', help_text='As reported by the provider, or as requested if it reported none.', max_length=20)),
                ('billable_extras', models.JSONField(help_text='Counts that the provider bills beside text tokens, such as calls of its own tools, by kind.', null=True)),
                ('blocking_budget_id', models.BigIntegerField(help_text='The budget that denied the request, or a shadow budget that would have denied it.', null=True)),
                ('attempts', models.JSONField(help_text='The calls of the request, in order: target, status, error code, milliseconds and cost in nano-USD. Empty: the first call succeeded, or none was made.', null=True)),
                ('unchecked', models.BooleanField(db_default=False, default=False, help_text='The request was admitted while Redis was down, so no budget was checked.')),
                ('metadata', models.JSONField(help_text='The tags of the client, as names and texts.', null=True)),
                ('saved_nano', models.BigIntegerField(db_default=0, default=0, help_text='The cost of the first request whose response this one got from the cache.')),
                ('corrects', models.UUIDField(null=True)),
                ('correction_reason', models.CharField(blank=True, choices=[('late', 'settled after an estimate was recorded'), ('repriced', 'Repriced')], default='', max_length=16)),
                ('key', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='records', to='keys.apikey')),
                ('project', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='records', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='Webhook',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80)),
                ('url', models.CharField(max_length=500, validators=[billing.models.webhooks.validate_webhook_url], verbose_name='URL')),
                ('sealed_secret', models.TextField(editable=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='projects.project')),
            ],
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.UUIDField(default=projects.ids.uuid7, primary_key=True, serialize=False)),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('delivered', 'Delivered'), ('failed', 'Failed')], default='pending', max_length=10)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('next_attempt_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('failure_reason', models.CharField(blank=True, help_text='Why the last attempt failed.', max_length=200)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('finished_at', models.DateTimeField(null=True)),
                ('admin_alert', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='billing.adminalert')),
                ('alert', models.ForeignKey(help_text='Empty: a test message, or an alert to admins.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='billing.alert')),
                ('member', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='projects.membership')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='projects.project')),
                ('webhook', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='billing.webhook')),
            ],
            options={
                'verbose_name_plural': 'deliveries',
            },
        ),
        migrations.AddField(
            model_name='budget',
            name='alert_webhooks',
            field=models.ManyToManyField(blank=True, related_name='budgets', to='billing.webhook', verbose_name='webhooks to alert'),
        ),
        migrations.AddConstraint(
            model_name='adminalert',
            constraint=models.UniqueConstraint(fields=('project', 'event', 'subject', 'occasion'), name='unique_admin_alert'),
        ),
        migrations.AddIndex(
            model_name='archivedusage',
            index=models.Index(fields=['project', 'day'], name='archived_by_project_day'),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.UniqueConstraint(fields=('budget', 'window', 'threshold'), name='unique_alert'),
        ),
        migrations.AddConstraint(
            model_name='budgetwindow',
            constraint=models.UniqueConstraint(fields=('budget', 'name'), name='unique_budget_window'),
        ),
        migrations.AddIndex(
            model_name='dailyusage',
            index=models.Index(fields=['project', 'day'], name='daily_usage_by_project_day'),
        ),
        migrations.AddConstraint(
            model_name='priceoverride',
            constraint=models.CheckConstraint(condition=models.Q(('input_nano__gte', 0), ('output_nano__gte', 0), ('request_nano__gte', 0)), name='prices_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='staleday',
            constraint=models.UniqueConstraint(fields=('project', 'day'), name='unique_stale_day'),
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(fields=['project', 'id'], name='usage_by_project_id'),
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(fields=['project', 'day'], name='usage_by_project_day'),
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(condition=models.Q(('outcome', 'budget')), fields=['project', 'id'], name='usage_budget_denials'),
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(condition=models.Q(('corrects__isnull', False)), fields=['corrects'], name='usage_corrections'),
        ),
        migrations.AddConstraint(
            model_name='webhook',
            constraint=models.UniqueConstraint(fields=('project', 'name'), name='unique_webhook_name'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('status', 'pending')), fields=['next_attempt_at'], name='delivery_pending'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=models.CheckConstraint(condition=models.Q(('member', None), ('webhook', None), _connector='XOR'), name='delivery_has_one_recipient'),
        ),
        migrations.AddConstraint(
            model_name='budget',
            constraint=models.UniqueConstraint(fields=('project', 'key', 'period', 'mode'), name='unique_key_budget'),
        ),
        migrations.AddConstraint(
            model_name='budget',
            constraint=models.UniqueConstraint(condition=models.Q(('key', None)), fields=('project', 'period', 'mode'), name='unique_project_budget'),
        ),
    ]
