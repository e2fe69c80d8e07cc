"""The shape of the registry's statistics, with the names that GitLab's registry uses."""

from typing import Any

from rest_framework import serializers

from metadata_import.statistics import Step

OMITTED_WHEN_ZERO = ("blobs_count", "blobs_size_bytes")
# Always there, though their columns may be NULL.
IN_PLACE_OF_NULL = {"pre_import": False, "tag_import": False, "blob_import": False, "storage_driver": ""}


class ReleaseSerializer(serializers.Serializer[Any]):
    """Which registry it is."""

    ext_features = serializers.CharField(help_text="Names of features, separated by commas.")
    version = serializers.CharField()


class DatabaseSerializer(serializers.Serializer[Any]):
    """Whether the metadata live in a database."""

    enabled = serializers.BooleanField()


class ImportSerializer(serializers.Serializer[Any]):
    """One run of an import; what did not happen is absent."""

    id = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(required=False)
    pre_import = serializers.BooleanField()
    tag_import = serializers.BooleanField()
    blob_import = serializers.BooleanField()
    repositories_count = serializers.IntegerField()
    tags_count = serializers.IntegerField()
    manifests_count = serializers.IntegerField()
    blobs_count = serializers.IntegerField(required=False)
    blobs_size_bytes = serializers.IntegerField(required=False)
    storage_driver = serializers.CharField()

    def get_fields(self) -> dict[str, Any]:
        """Add the times and the error of each step."""
        fields = super().get_fields()
        for step in Step:
            fields[f"{step}_started_at"] = serializers.DateTimeField(required=False)
            fields[f"{step}_finished_at"] = serializers.DateTimeField(required=False)
            fields[f"{step}_error"] = serializers.CharField(required=False)
        return fields

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Leave out what is NULL, and counts of blobs where none was counted."""
        values = super().to_representation(instance)
        values.update({name: value for name, value in IN_PLACE_OF_NULL.items() if values[name] is None})
        return {
            name: value
            for name, value in values.items()
            if value is not None and not (name in OMITTED_WHEN_ZERO and value == 0)
        }


class StatisticsSerializer(serializers.Serializer[Any]):
    """What GitLab Rails asks a registry about itself."""

    release = ReleaseSerializer()
    database = DatabaseSerializer()

    def get_fields(self) -> dict[str, Any]:
        """Add the imports, whose name is a word of Python's own."""
        return {**super().get_fields(), "import": ImportSerializer(many=True, required=False)}
