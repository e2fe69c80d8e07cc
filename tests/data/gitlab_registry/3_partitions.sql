-- Eight tables in 64 partitions each. Five indexes were built partition by partition, under names of their own.

CREATE SCHEMA partitions;

DO $$
DECLARE
    parent text;
    n integer;
BEGIN
    FOREACH parent IN ARRAY ARRAY[
        'blobs', 'repository_blobs', 'manifests', 'layers', 'manifest_references', 'tags', 'gc_blobs_layers',
        'gc_blobs_configurations'
    ] LOOP
        FOR n IN 0..63 LOOP
            EXECUTE format(
                'CREATE TABLE partitions.%I PARTITION OF %I FOR VALUES WITH (MODULUS 64, REMAINDER %s)',
                parent || '_p_' || n, parent, n
            );
        END LOOP;
    END LOOP;
    FOR n IN 0..63 LOOP
        EXECUTE format(
            'CREATE INDEX index_layers_p_%1$s_on_top_level_namespace_id_and_digest_and_size'
            ' ON partitions.layers_p_%1$s (top_level_namespace_id, digest, size)', n);
        EXECUTE format(
            'CREATE INDEX index_tags_p_%1$s_on_ns_id_and_repo_id_and_manifest_id_and_name'
            ' ON partitions.tags_p_%1$s (top_level_namespace_id, repository_id, manifest_id, name)', n);
        EXECUTE format(
            'CREATE INDEX index_manifests_p_%1$s_on_ns_id_and_repo_id_and_subject_id'
            ' ON partitions.manifests_p_%1$s (top_level_namespace_id, repository_id, subject_id)', n);
        EXECUTE format('CREATE INDEX index_manifests_p_%1$s_on_id ON partitions.manifests_p_%1$s (id)', n);
        EXECUTE format(
            'CREATE INDEX index_blobs_p_%1$s_on_null_id ON partitions.blobs_p_%1$s (id) WHERE id IS NULL', n);
    END LOOP;
END $$;

CREATE INDEX index_layers_on_top_level_namespace_id_and_digest_and_size
    ON layers (top_level_namespace_id, digest, size);
CREATE INDEX index_tags_on_ns_id_and_repo_id_and_manifest_id_and_name
    ON tags (top_level_namespace_id, repository_id, manifest_id, name);
CREATE INDEX index_manifests_on_ns_id_and_repo_id_and_subject_id
    ON manifests (top_level_namespace_id, repository_id, subject_id);
CREATE INDEX index_manifests_on_id ON manifests (id);
CREATE INDEX index_blobs_on_null_id ON blobs (id) WHERE id IS NULL;

CREATE INDEX index_blobs_on_media_type_id ON blobs (media_type_id);
CREATE INDEX index_repository_blobs_on_blob_digest ON repository_blobs (blob_digest);
CREATE INDEX index_manifests_on_media_type_id ON manifests (media_type_id);
CREATE INDEX index_manifests_on_configuration_media_type_id ON manifests (configuration_media_type_id);
CREATE INDEX index_manifests_on_configuration_blob_digest ON manifests (configuration_blob_digest);
CREATE INDEX index_manifest_references_on_tp_lvl_nmspc_id_rpstry_id_chld_id
    ON manifest_references (top_level_namespace_id, repository_id, child_id);
CREATE INDEX index_layers_on_media_type_id ON layers (media_type_id);
CREATE INDEX index_layers_on_digest ON layers (digest);
CREATE INDEX index_tags_on_top_lvl_nmspc_id_and_rpository_id_and_manifest_id
    ON tags (top_level_namespace_id, repository_id, manifest_id);

-- The table refers to itself, so this comes after its partitions.
ALTER TABLE manifests ADD CONSTRAINT fk_manifests_subject_id_manifests
    FOREIGN KEY (top_level_namespace_id, repository_id, subject_id)
    REFERENCES manifests (top_level_namespace_id, repository_id, id) ON DELETE CASCADE;
