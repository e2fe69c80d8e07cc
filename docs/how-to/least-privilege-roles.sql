-- Four roles for the registry's metadata database; docs/how-to/least-privilege-roles.md says who needs which.
-- Run it in that database, as a superuser or as the tables' owner with CREATEROLE. Every line may run again: run it
-- after `manage.py migrate`, which makes tables, and after each upgrade of the registry or of this service.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[
        'registry_metadata_owner', 'registry_metadata_reader', 'registry_metadata_operator',
        'registry_metadata_importer'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END $$;

GRANT registry_metadata_reader TO registry_metadata_operator, registry_metadata_importer;

-- The owner makes and updates the control tables by `manage.py migrate`, and can do nothing to the registry's own.
-- What somebody else has made of them before is handed over.
CREATE SCHEMA IF NOT EXISTS registry_admin;
GRANT USAGE, CREATE ON SCHEMA registry_admin TO registry_metadata_owner;
GRANT USAGE ON SCHEMA public TO registry_metadata_owner;
GRANT SELECT ON public.schema_migrations, public.post_deploy_schema_migrations TO registry_metadata_owner;
DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'registry_admin'::regnamespace AND relkind = 'r'
            AND (relname LIKE 'background\_%' OR relname LIKE 'import\_%' OR relname = 'django_migrations')
            AND relowner <> 'registry_metadata_owner'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO registry_metadata_owner', made.name);
    END LOOP;
END $$;

-- The reader sees everything and changes nothing.
GRANT USAGE ON SCHEMA public, partitions, registry_admin TO registry_metadata_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public, partitions, registry_admin TO registry_metadata_reader;

-- The operator steers background migrations and runs them: their rows, our records, and the columns they fill.
GRANT INSERT, UPDATE ON public.batched_background_migrations, public.batched_background_migration_jobs
    TO registry_metadata_operator;
GRANT USAGE ON SEQUENCE public.blobs_id_seq TO registry_metadata_operator;
DO $$
DECLARE
    written record;
BEGIN
    FOR written IN
        SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = to_regnamespace('registry_admin') AND relkind = 'r' AND relname LIKE 'background\_%'
    LOOP
        EXECUTE format('GRANT INSERT, UPDATE ON %s TO registry_metadata_operator', written.name);
    END LOOP;
    FOR written IN
        SELECT c.oid::regclass AS name, a.attname AS filled
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace IN ('public'::regnamespace, 'partitions'::regnamespace) AND c.relkind IN ('r', 'p')
            AND c.relname ~ '^(blobs|manifests)(_p_\d+)?$' AND NOT a.attisdropped
            AND (a.attname LIKE '%\_convert\_to\_bigint' OR (c.relname LIKE 'blobs%' AND a.attname = 'id'))
    LOOP
        EXECUTE format('GRANT UPDATE (%I) ON %s TO registry_metadata_operator', written.filled, written.name);
    END LOOP;
END $$;

-- The importer writes what an import brings, and what the registry's own triggers note about it.
GRANT INSERT ON
    public.top_level_namespaces, public.repositories, public.media_types, public.blobs, public.repository_blobs,
    public.manifests, public.manifest_references, public.layers, public.tags, public.import_statistics
    TO registry_metadata_importer;
GRANT UPDATE (deleted_at, last_published_at) ON public.repositories TO registry_metadata_importer;
GRANT UPDATE (manifest_id, updated_at), DELETE ON public.tags TO registry_metadata_importer;
GRANT USAGE ON SEQUENCE public.blobs_id_seq, public.media_types_id_seq TO registry_metadata_importer;
DO $$
DECLARE
    written record;
BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO registry_metadata_importer', current_database());
    FOR written IN
        SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = to_regnamespace('registry_admin') AND relkind = 'r' AND relname LIKE 'import\_%'
    LOOP
        EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %s TO registry_metadata_importer', written.name);
    END LOOP;
    IF to_regclass('public.gc_blob_review_queue') IS NOT NULL THEN
        GRANT INSERT ON
            public.gc_blobs_layers, public.gc_blobs_configurations, public.gc_tmp_blobs_manifests,
            public.gc_blob_review_queue, public.gc_manifest_review_queue
            TO registry_metadata_importer;
        GRANT UPDATE (review_after, event) ON public.gc_blob_review_queue, public.gc_manifest_review_queue
            TO registry_metadata_importer;
    END IF;
    -- Growing tables are analyzed on the way. Before PostgreSQL 17 only their owner may, and the import goes on without.
    IF current_setting('server_version_num')::int >= 170000 THEN
        FOR written IN
            SELECT oid::regclass AS name FROM pg_class
            WHERE relnamespace IN ('public'::regnamespace, 'partitions'::regnamespace) AND relkind IN ('r', 'p')
                AND relname ~ '^(repositories|repository_blobs|manifests|layers|manifest_references|tags)(_p_\d+)?$'
        LOOP
            EXECUTE format('GRANT MAINTAIN ON %s TO registry_metadata_importer', written.name);
        END LOOP;
    END IF;
END $$;
