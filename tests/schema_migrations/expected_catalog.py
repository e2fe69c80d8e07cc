"""What the schema must be: every table, written by hand and not read from a database.

A column reads `name type [not null] [default …] [identity]`, a constraint or index as PostgreSQL prints it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PARTITIONS = 64
NAMESPACE = "top_level_namespace_id"
REPOSITORY = "top_level_namespace_id, repository_id"  # the key of a repository
LENGTH = "CHECK ((char_length({}) <= 255))".format

# Columns that many tables share.
ID = "id bigint not null identity"
NAMESPACE_ID = "top_level_namespace_id bigint not null"
REPOSITORY_ID = "repository_id bigint not null"
IN_REPOSITORY = [ID, NAMESPACE_ID, REPOSITORY_ID]
CREATED_AT = "created_at timestamp with time zone not null default now()"
UPDATED_AT = "updated_at timestamp with time zone"
STARTED_AT = "started_at timestamp with time zone"
FINISHED_AT = "finished_at timestamp with time zone"

# Foreign keys that many tables share.
CASCADE = " ON DELETE CASCADE"
TO_MEDIA_TYPES = "FOREIGN KEY ({}) REFERENCES media_types(id)".format
TO_BLOBS = "FOREIGN KEY ({}) REFERENCES blobs(digest)".format
TO_REPOSITORIES = (
    "FOREIGN KEY (top_level_namespace_id, repository_id) "
    "REFERENCES repositories(top_level_namespace_id, id) ON DELETE CASCADE"
)
TO_MANIFESTS = (
    "FOREIGN KEY (top_level_namespace_id, repository_id, {}) "
    "REFERENCES manifests(top_level_namespace_id, repository_id, id)".format
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: its columns in physical order; its constraints and its other indexes by name."""

    columns: Sequence[str]
    constraints: Mapping[str, str]
    indexes: Mapping[str, str] = field(default_factory=dict)
    partitioned_by: str = ""  # the column whose hash picks one of the partitions


TABLES = {
    "top_level_namespaces": Table(
        columns=[ID, CREATED_AT, UPDATED_AT, "name text not null"],
        constraints={
            "pk_top_level_namespaces": "PRIMARY KEY (id)",
            "unique_top_level_namespaces_name": "UNIQUE (name)",
            "check_top_level_namespaces_name_length": LENGTH("name"),
        },
    ),
    "repositories": Table(
        columns=[
            ID,
            NAMESPACE_ID,
            "parent_id bigint",
            CREATED_AT,
            UPDATED_AT,
            "name text not null",
            "path text not null",
            "deleted_at timestamp with time zone",
            "last_published_at timestamp with time zone",
        ],
        constraints={
            "pk_repositories": "PRIMARY KEY (top_level_namespace_id, id)",
            "unique_repositories_path": "UNIQUE (path)",
            "fk_repositories_top_level_namespace_id_top_level_namespaces": (
                "FOREIGN KEY (top_level_namespace_id) REFERENCES top_level_namespaces(id) ON DELETE CASCADE"
            ),
            "check_repositories_name_length": LENGTH("name"),
            "check_repositories_path_length": LENGTH("path"),
        },
        indexes={
            "index_repositories_on_top_level_namespace_id_and_parent_id": ("btree (top_level_namespace_id, parent_id)"),
            "index_repositories_on_top_level_namespace_id_and_path_and_id": (
                "btree (top_level_namespace_id, path text_pattern_ops, id)"
            ),
            "index_repositories_on_id_where_deleted_at_not_null": "btree (id) WHERE (deleted_at IS NOT NULL)",
        },
    ),
    "media_types": Table(
        columns=[CREATED_AT, "id smallint not null identity", "media_type text not null"],
        constraints={
            "pk_media_types": "PRIMARY KEY (id)",
            "unique_media_types_type": "UNIQUE (media_type)",
            "check_media_types_type_length": LENGTH("media_type"),
            "check_media_types_media_type_not_empty_string": ("CHECK ((length(TRIM(BOTH FROM media_type)) > 0))"),
        },
    ),
    "blobs": Table(
        partitioned_by="digest",
        columns=[
            "size bigint not null",
            CREATED_AT,
            "media_type_id smallint not null",
            "digest bytea not null",
            "id bigint default nextval('blobs_id_seq'::regclass)",
        ],
        constraints={
            "pk_blobs": "PRIMARY KEY (digest)",
            "fk_blobs_media_type_id_media_types": TO_MEDIA_TYPES("media_type_id"),
        },
        indexes={
            "index_blobs_on_media_type_id": "btree (media_type_id)",
            "index_blobs_on_null_id": "btree (id) WHERE (id IS NULL)",
        },
    ),
    "repository_blobs": Table(
        partitioned_by=NAMESPACE,
        columns=[*IN_REPOSITORY, CREATED_AT, "blob_digest bytea not null"],
        constraints={
            "pk_repository_blobs": f"PRIMARY KEY ({REPOSITORY}, id)",
            "unique_repository_blobs_tp_lvl_nmspc_id_and_rpstry_id_blb_dgst": (f"UNIQUE ({REPOSITORY}, blob_digest)"),
            "fk_repository_blobs_top_lvl_nmspc_id_and_rpstry_id_repositories": TO_REPOSITORIES,
            "fk_repository_blobs_blob_digest_blobs": TO_BLOBS("blob_digest") + CASCADE,
        },
        indexes={"index_repository_blobs_on_blob_digest": "btree (blob_digest)"},
    ),
    "manifests": Table(
        partitioned_by=NAMESPACE,
        columns=[
            *IN_REPOSITORY,
            CREATED_AT,
            "schema_version smallint not null",
            "media_type_id smallint not null",
            "configuration_media_type_id smallint",
            "configuration_payload bytea",
            "configuration_blob_digest bytea",
            "digest bytea not null",
            "payload bytea not null",
            "non_conformant boolean default false",
            "total_size bigint not null",
            "non_distributable_layers boolean default false",
            "subject_id bigint",
            "artifact_media_type_id bigint",
            "media_type_id_convert_to_bigint bigint not null default 0",
        ],
        constraints={
            "pk_manifests": f"PRIMARY KEY ({REPOSITORY}, id)",
            "unique_manifests_top_lvl_nmspc_id_and_repository_id_and_digest": (f"UNIQUE ({REPOSITORY}, digest)"),
            "unique_manifests_top_lvl_nmspc_id_and_repo_id_id_cfg_blob_dgst": (
                f"UNIQUE ({REPOSITORY}, id, configuration_blob_digest)"
            ),
            "fk_manifests_top_lvl_nmespace_id_and_repository_id_repositories": TO_REPOSITORIES,
            "fk_manifests_media_type_id_media_types": TO_MEDIA_TYPES("media_type_id"),
            "fk_manifests_configuration_media_type_id_media_types": (TO_MEDIA_TYPES("configuration_media_type_id")),
            "fk_manifests_configuration_blob_digest_blobs": TO_BLOBS("configuration_blob_digest"),
            "fk_manifests_subject_id_manifests": TO_MANIFESTS("subject_id") + CASCADE,
            "fk_manifests_artifact_media_type_id_media_types": TO_MEDIA_TYPES("artifact_media_type_id"),
        },
        indexes={
            "index_manifests_on_media_type_id": "btree (media_type_id)",
            "index_manifests_on_configuration_media_type_id": "btree (configuration_media_type_id)",
            "index_manifests_on_configuration_blob_digest": "btree (configuration_blob_digest)",
            "index_manifests_on_ns_id_and_repo_id_and_subject_id": f"btree ({REPOSITORY}, subject_id)",
            "index_manifests_on_id": "btree (id)",
        },
    ),
    "manifest_references": Table(
        partitioned_by=NAMESPACE,
        columns=[*IN_REPOSITORY, "parent_id bigint not null", "child_id bigint not null", CREATED_AT],
        constraints={
            "pk_manifest_references": f"PRIMARY KEY ({REPOSITORY}, id)",
            "unique_manifest_references_tp_lvl_nmspc_id_rpy_id_prt_id_chd_id": (
                f"UNIQUE ({REPOSITORY}, parent_id, child_id)"
            ),
            "fk_manifest_references_tp_lvl_nmspc_id_rpsty_id_prnt_id_mnfsts": TO_MANIFESTS("parent_id") + CASCADE,
            "fk_manifest_references_tp_lvl_nmspc_id_rpsty_id_chld_id_mnfsts": TO_MANIFESTS("child_id"),
            "check_manifest_references_parent_id_and_child_id_differ": "CHECK ((parent_id <> child_id))",
        },
        indexes={
            "index_manifest_references_on_tp_lvl_nmspc_id_rpstry_id_chld_id": (f"btree ({REPOSITORY}, child_id)"),
        },
    ),
    "layers": Table(
        partitioned_by=NAMESPACE,
        columns=[
            *IN_REPOSITORY,
            "manifest_id bigint not null",
            "size bigint not null",
            CREATED_AT,
            "media_type_id smallint not null",
            "digest bytea not null",
        ],
        constraints={
            "pk_layers": f"PRIMARY KEY ({REPOSITORY}, id)",
            "unique_layers_tp_lvl_nmspc_id_rpstry_id_and_mnfst_id_and_digest": (
                f"UNIQUE ({REPOSITORY}, manifest_id, digest)"
            ),
            "unique_layers_top_lvl_nmspc_id_and_rpstory_id_and_id_and_digest": (f"UNIQUE ({REPOSITORY}, id, digest)"),
            "fk_layers_top_lvl_nmspc_id_and_repo_id_and_manifst_id_manifests": TO_MANIFESTS("manifest_id") + CASCADE,
            "fk_layers_media_type_id_media_types": TO_MEDIA_TYPES("media_type_id"),
            "fk_layers_digest_blobs": TO_BLOBS("digest"),
        },
        indexes={
            "index_layers_on_media_type_id": "btree (media_type_id)",
            "index_layers_on_digest": "btree (digest)",
            "index_layers_on_top_level_namespace_id_and_digest_and_size": (
                "btree (top_level_namespace_id, digest, size)"
            ),
        },
    ),
    "tags": Table(
        partitioned_by=NAMESPACE,
        columns=[*IN_REPOSITORY, "manifest_id bigint not null", CREATED_AT, UPDATED_AT, "name text not null"],
        constraints={
            "pk_tags": f"PRIMARY KEY ({REPOSITORY}, id)",
            "unique_tags_top_level_namespace_id_and_repository_id_and_name": f"UNIQUE ({REPOSITORY}, name)",
            "fk_tags_repository_id_and_manifest_id_manifests": TO_MANIFESTS("manifest_id") + CASCADE,
            "check_tags_name_length": LENGTH("name"),
        },
        indexes={
            "index_tags_on_top_lvl_nmspc_id_and_rpository_id_and_manifest_id": (f"btree ({REPOSITORY}, manifest_id)"),
            "index_tags_on_ns_id_and_repo_id_and_manifest_id_and_name": (f"btree ({REPOSITORY}, manifest_id, name)"),
        },
    ),
    "import_statistics": Table(
        columns=[
            ID,
            CREATED_AT,
            f"{STARTED_AT} not null",
            FINISHED_AT,
            *(
                f"{step}_import{column}"
                for step in ("pre", "tag", "blob")
                for column in (" boolean default false", f"_{STARTED_AT}", f"_{FINISHED_AT}", "_error text")
            ),
            "repositories_count bigint not null default 0",
            "tags_count bigint not null default 0",
            "manifests_count bigint not null default 0",
            "blobs_count bigint not null default 0",
            "blobs_size_bytes bigint not null default 0",
            "storage_driver text",
        ],
        constraints={"pk_import_statistics": "PRIMARY KEY (id)"},
    ),
    "batched_background_migrations": Table(
        columns=[
            ID,
            "name text not null",
            CREATED_AT,
            UPDATED_AT,
            "min_value bigint not null default 1",
            "max_value bigint not null",
            "batch_size integer not null",
            "status smallint not null default 0",
            "job_signature_name text not null",
            "table_name text not null",
            "column_name text not null",
            "failure_error_code smallint",
            STARTED_AT,
            FINISHED_AT,
            "batching_strategy text",
            "total_tuple_count bigint",
        ],
        constraints={
            "pk_batched_background_migrations": "PRIMARY KEY (id)",
            "unique_batched_background_migrations_name": "UNIQUE (name)",
        },
        indexes={"index_batched_background_migrations_on_status": "btree (status)"},
    ),
    "batched_background_migration_jobs": Table(
        columns=[
            ID,
            CREATED_AT,
            UPDATED_AT,
            STARTED_AT,
            FINISHED_AT,
            "batched_background_migration_id bigint not null",
            "min_value bigint not null",
            "max_value bigint not null",
            "status smallint not null default 1",
            "failure_error_code smallint",
            "attempts smallint not null default 0",
        ],
        constraints={
            "pk_batched_background_migrations_job": "PRIMARY KEY (id)",
            "fk_batched_background_migration_jobs_bbm_id_bbms": (
                "FOREIGN KEY (batched_background_migration_id) "
                "REFERENCES batched_background_migrations(id) ON DELETE CASCADE"
            ),
        },
        indexes={
            "index_batched_background_migration_jobs_on_bbm_id": "btree (batched_background_migration_id)",
            "index_batched_background_migration_jobs_on_bbm_id_and_max_value": (
                "btree (batched_background_migration_id, max_value)"
            ),
            "index_batched_background_migration_jobs_on_bbm_id_and_id_desc": (
                "btree (batched_background_migration_id, id DESC)"
            ),
        },
    ),
    # What the migrator keeps.
    "schema_migrations": Table(
        columns=["id text not null", "applied_at timestamp with time zone"],
        constraints={"schema_migrations_pkey": "PRIMARY KEY (id)"},
    ),
    "post_deploy_schema_migrations": Table(
        columns=["id text not null", "applied_at timestamp with time zone"],
        constraints={"post_deploy_schema_migrations_pkey": "PRIMARY KEY (id)"},
    ),
    # On a database of our own, in the place of GitLab Rails' tables.
    "container_repositories": Table(
        columns=[ID, "project_id bigint not null", "name text not null", "status smallint"],
        constraints={
            "pk_container_repositories": "PRIMARY KEY (id)",
            "unique_container_repositories_project_id_and_name": "UNIQUE (project_id, name)",
        },
        indexes={
            "index_container_repositories_on_status_and_id_where_not_null": (
                "btree (status, id) WHERE (status IS NOT NULL)"
            ),
        },
    ),
    "routes": Table(
        columns=[ID, "source_type text not null", "source_id bigint not null", "path text not null"],
        constraints={
            "pk_routes": "PRIMARY KEY (id)",
            "unique_routes_source_type_and_source_id": "UNIQUE (source_type, source_id)",
            "unique_routes_path": "UNIQUE (path)",
        },
    ),
}

# Indexes whose parts have names of ours, index_<table>_p_<n>_on_…; the server names all others.
NAMED_IN_PARTITIONS = [
    "index_blobs_on_null_id",
    "index_layers_on_top_level_namespace_id_and_digest_and_size",
    "index_manifests_on_id",
    "index_manifests_on_ns_id_and_repo_id_and_subject_id",
    "index_tags_on_ns_id_and_repo_id_and_manifest_id_and_name",
]

# By name: type and owning column; the sequence of blob ids belongs to no column.
SEQUENCES = {
    "blobs_id_seq": "bigint",
    "media_types_id_seq": "smallint of media_types.id",
} | {f"{name}_id_seq": f"bigint of {name}.id" for name, table in TABLES.items() if ID in table.columns}

FUNCTIONS = ["set_media_type_id_convert_to_bigint"]
TRIGGERS = {
    "manifests": {
        "set_media_type_id_convert_to_bigint": (
            "BEFORE INSERT OR UPDATE FOR EACH ROW EXECUTE FUNCTION set_media_type_id_convert_to_bigint()"
        ),
    },
}

CONSTRAINT_COMMENTS = {
    "unique_manifests_top_lvl_nmspc_id_and_repo_id_id_cfg_blob_dgst": (
        "Lets records of unused configuration blobs reference manifests, so that deletes cascade fast."
    ),
    "unique_layers_top_lvl_nmspc_id_and_rpstory_id_and_id_and_digest": (
        "Lets records of unused layer blobs reference layers, so that deletes cascade fast."
    ),
}

MEDIA_TYPES = 103
NULL_KEYSET = "NullKeySetBatchingStrategy"
# By name: status (1: active), min and max value, batch size, job signature name, table, column, strategy.
BACKGROUND_MIGRATIONS = {
    "copy_manifests_media_type_id_column_to_media_type_id_convert_to_bigint_column": (
        (1, 1, 2**63 - 1, 10_000, "copyManifestMediaTypeIDToNewBigIntColumn", "public.manifests", "id", None)
    ),
} | {
    f"backfill_blobs_p_{n}_id_column": (
        (1, 0, 0, 100_000, "populateBlobsIDColumn", f"partitions.blobs_p_{n}", "id", NULL_KEYSET)
    )
    for n in range(PARTITIONS)
}
