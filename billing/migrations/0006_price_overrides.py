import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import billing.models.prices


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_alerts'),
        ('projects', '0003_limits'),
    ]

    operations = [
        migrations.CreateModel(
            name='PriceOverride',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(blank=True, help_text='A provider, or the name of a credential. Empty: any.', max_length=60)),
                ('model', models.CharField(help_text='As the provider calls it. A star at the end stands for any rest: llama-*.', max_length=200, validators=[billing.models.prices.validate_model])),
                ('effective_from', models.DateTimeField(default=django.utils.timezone.now)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('input_nano', models.BigIntegerField(help_text='Nano-USD per million tokens.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input')),
                ('output_nano', models.BigIntegerField(help_text='Nano-USD per million tokens.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='output')),
                ('cache_read_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: as input.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input read from a cache')),
                ('cache_write_5m_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: as input.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input written to a cache for 5 minutes')),
                ('cache_write_1h_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: as input.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='input written to a cache for an hour')),
                ('reasoning_nano', models.BigIntegerField(blank=True, help_text='Nano-USD per million tokens. Empty: as other output.', null=True, validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='reasoning')),
                ('request_nano', models.BigIntegerField(default=0, help_text='Nano-USD.', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(1000000000000000)], verbose_name='each request')),
                ('tool_fees', models.JSONField(blank=True, default=dict, help_text='Nano-USD for a call, by kind of tool.', validators=[billing.models.prices.validate_tool_fees])),
                ('project', models.ForeignKey(blank=True, help_text='Empty: all projects.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='price_overrides', to='projects.project')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('input_nano__gte', 0), ('output_nano__gte', 0), ('request_nano__gte', 0)), name='prices_are_not_negative')],
            },
        ),
    ]
