import django.db.models.deletion
import proxy.models.credentials
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('projects', '0001_initial'),
    ]

    operations = [
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
                ('sealed_response', models.TextField(blank=True, help_text="Data of customers, encrypted like credentials.")),
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
                ('expires_at', models.DateTimeField(db_index=True, null=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='issued_ids', to='projects.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'digest'), name='unique_issued_id')],
            },
        ),
    ]
