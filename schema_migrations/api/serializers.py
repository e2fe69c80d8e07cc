"""The shape of the status that GitLab Rails reads for its health check."""

from typing import Any

from rest_framework import serializers


class SchemaCountsSerializer(serializers.Serializer[Any]):
    """Schema migrations of this release; what only another release knows is in no count."""

    applied = serializers.IntegerField(min_value=0)
    pending = serializers.IntegerField(min_value=0)
    pending_post_deployment = serializers.IntegerField(min_value=0)
    pending_non_post_deployment = serializers.IntegerField(min_value=0)


class BackgroundCountsSerializer(serializers.Serializer[Any]):
    """Background migrations; the four numbers together are all of them."""

    active = serializers.IntegerField(min_value=0, help_text="Active or running.")
    paused = serializers.IntegerField(min_value=0)
    failed = serializers.IntegerField(min_value=0)
    completed = serializers.IntegerField(min_value=0, help_text="Finished.")


class StatusSerializer(serializers.Serializer[Any]):
    """The state of all migrations of one registry database."""

    version = serializers.CharField(help_text="Of the registry that the database belongs to.")
    schema_migrations = SchemaCountsSerializer()
    background_migrations = BackgroundCountsSerializer()
