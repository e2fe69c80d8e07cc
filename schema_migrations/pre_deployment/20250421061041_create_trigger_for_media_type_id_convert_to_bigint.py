"""Keep the wider twin of manifests.media_type_id equal to it in every row written from now on."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        """
        CREATE OR REPLACE FUNCTION public.set_media_type_id_convert_to_bigint()
        RETURNS trigger
        LANGUAGE plpgsql
        AS $$
        BEGIN
            NEW.media_type_id_convert_to_bigint := NEW.media_type_id;
            RETURN NEW;
        END
        $$
        """,
        """
        CREATE OR REPLACE TRIGGER set_media_type_id_convert_to_bigint
        BEFORE INSERT OR UPDATE ON public.manifests
        FOR EACH ROW EXECUTE FUNCTION public.set_media_type_id_convert_to_bigint()
        """,
    ],
    down=[
        "DROP TRIGGER IF EXISTS set_media_type_id_convert_to_bigint ON public.manifests",
        "DROP FUNCTION IF EXISTS public.set_media_type_id_convert_to_bigint()",
    ],
)
